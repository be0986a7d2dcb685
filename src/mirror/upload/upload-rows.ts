import { blake3 } from '@napi-rs/blake-hash';
import { SendenseError } from '../../base/sendense-error.ts';
import { readRows } from '../../nbd/mover/rows/rows.ts';
import { mergeRows, type VisiblePart } from '../../repository/verify/visible-rows.ts';
import type { Mirror } from '../mirror.ts';
import { RowsEncoder } from '../points/block-rows.ts';
import type { GuestBlocks } from './guest-blocks.ts';
import type { BlockPlace, PackUploader } from './pack-uploader.ts';
import type { SyncProgress } from './sync-progress.ts';
import type { DiskInput } from './sync-task.ts';

/** What a point needs besides its rows. */
export interface UploadedRows {
  readonly body: Buffer;
  readonly dataRows: number;
  readonly dataBytes: number;
  readonly packs: readonly string[];
}

interface RowsDeps {
  readonly mirror: Mirror;
  readonly uploader: PackUploader;
  readonly guest: GuestBlocks;
  readonly progress: SyncProgress;
  readonly signal: AbortSignal;
}

/** Rows whose place is not known yet; more would only take memory. */
const MAX_PENDING = 4096;

interface Pending {
  readonly part: VisiblePart;
  /** Null: zeros. */
  readonly block: { readonly b3: string; readonly place: Promise<BlockPlace> } | null;
}

/**
 * Uploads what the upper layers of a chain hold and the mirror has not got.
 * @param layers how many layers from the top
 * @returns waits for the places; they are known after the uploader was flushed
 */
export async function uploadRows(
  deps: RowsDeps,
  disk: DiskInput,
  layers: number,
): Promise<() => Promise<UploadedRows>> {
  const { uploader, guest, progress, signal } = deps;
  const encoder = new RowsEncoder(disk.point);
  const packs: string[] = [];
  const numbers = new Map<string, number>();
  const pending: Pending[] = [];

  const settle = async ({ part, block }: Pending) => {
    const { offset, size } = part;
    if (block === null) {
      encoder.add({ offset, size, zero: true });
      return;
    }
    const { packId, at, len, codec } = await block.place;
    let pack = numbers.get(packId);
    if (pack === undefined) {
      pack = packs.push(packId) - 1;
      numbers.set(packId, pack);
    }
    encoder.add({ offset, size, b3: block.b3, pack, at, len, codec });
  };

  const files = disk.layers.slice(0, layers).map(({ rows }) => rows);
  for await (const part of mergeRows(files.map((path) => readRows(path)))) {
    if (signal.aborted) throw new SendenseError('CANCELLED');
    const { offset, row } = part;
    // beyond the end of a disk that shrank
    const size = Math.min(part.size, disk.sizeBytes - offset);
    if (size <= 0) break;
    const block = row.zero
      ? null
      : await blockOf({ ...part, size, isWhole: part.isWhole && size === part.size }, row.b3);
    pending.push({ part: { ...part, size }, block });
    progress.processedBytes += row.zero ? 0 : size;
    if (pending.length < MAX_PENDING) continue;
    await uploader.drain();
    for (const one of pending.splice(0)) await settle(one);
  }

  async function blockOf(part: VisiblePart, b3: string) {
    const { offset, size } = part;
    if (part.isWhole) {
      return { b3, ...(await uploader.add(b3, size, (into) => guest.readProven(offset, into, b3))) };
    }
    // of a row that newer ones hide in part only the rest is kept
    const content = await guest.readPart(part);
    const own = blake3(content).toString('hex');
    return { b3: own, ...(await uploader.add(own, size, async (into) => void content.copy(into))) };
  }

  return async () => {
    for (const one of pending) await settle(one);
    const body = encoder.finish(deps.mirror.keys, disk.point);
    return { body, dataRows: encoder.dataRows, dataBytes: encoder.dataBytes, packs };
  };
}
