import { blake3 } from '@napi-rs/blake-hash';
import pLimit from 'p-limit';
import { SendenseError } from '../../base/sendense-error.ts';
import { readRows } from '../../nbd/mover/rows/rows.ts';
import { mergeRows, type VisiblePart } from '../../repository/verify/visible-rows.ts';
import { layout } from '../layout.ts';
import type { Mirror } from '../mirror.ts';
import { type BlockRow, RowsEncoder } from '../points/block-rows.ts';
import type { ObjectRetention } from '../store/object-store.ts';
import type { Pacer } from '../store/pacer.ts';
import type { GuestBlocks } from './guest-blocks.ts';
import type { SyncProgress } from './sync-progress.ts';
import type { DiskInput } from './sync-task.ts';

const OBJECTS_IN_FLIGHT = 8;

interface PlainDeps {
  readonly mirror: Mirror;
  readonly guest: GuestBlocks;
  readonly pacer: Pacer;
  readonly progress: SyncProgress;
  readonly retention: ObjectRetention | undefined;
  readonly signal: AbortSignal;
  /** Whether an earlier attempt has put this object already. */
  readonly isThere: (key: string) => boolean;
  /**
   * The row that says a block is as at an earlier point; null: it has to be uploaded. Only for a point that is whole.
   */
  readonly borrow: (offset: number, size: number, b3: string) => BlockRow | null;
}

export interface PlainRows {
  readonly body: Buffer;
  readonly dataRows: number;
  readonly dataBytes: number;
}

/**
 * Uploads blocks as objects of their own, each a whole block of the disk, so that `aws s3 cp` and `dd` are enough to
 * restore them.
 */
export async function uploadPlainBlocks(
  deps: PlainDeps,
  disk: DiskInput,
  layers: number,
): Promise<PlainRows> {
  const encoder = new RowsEncoder(disk.point);
  const limit = pLimit(OBJECTS_IN_FLIGHT);
  const running = new Set<Promise<BlockRow>>();
  const rows: Promise<BlockRow>[] = [];
  const settle = async () => {
    for (const row of await Promise.all(rows.splice(0))) encoder.add(row);
  };
  try {
    for await (const block of touchedBlocks(deps, disk, layers)) {
      if (deps.signal.aborted) throw new SendenseError('CANCELLED');
      const row = limit(() => putBlock(deps, disk, block));
      row.catch(() => undefined);
      rows.push(row);
      running.add(row);
      if (rows.length >= OBJECTS_IN_FLIGHT * 4) await settle();
    }
    await settle();
  } finally {
    limit.clearQueue();
    await Promise.allSettled(running);
  }
  return {
    body: encoder.finish(deps.mirror.keys, disk.point),
    dataRows: encoder.dataRows,
    dataBytes: encoder.dataBytes,
  };
}

interface TouchedBlock {
  readonly offset: number;
  readonly size: number;
  readonly parts: readonly VisiblePart[];
}

/** Blocks in which the upper layers have anything, with what the rows of all layers say of them. */
async function* touchedBlocks(
  deps: PlainDeps,
  disk: DiskInput,
  layers: number,
): AsyncGenerator<TouchedBlock> {
  const { blockBytes } = deps.mirror;
  const files = disk.layers.map(({ rows }) => rows);
  let index = -1;
  let parts: VisiblePart[] = [];
  const finish = (): TouchedBlock[] => {
    if (!parts.some(({ layer }) => layer < layers)) return [];
    const offset = index * blockBytes;
    return [{ offset, size: Math.min(blockBytes, disk.sizeBytes - offset), parts }];
  };
  for await (const part of mergeRows(files.map((path) => readRows(path)))) {
    const end = Math.min(part.offset + part.size, disk.sizeBytes);
    for (let offset = part.offset; offset < end; ) {
      const block = Math.floor(offset / blockBytes);
      if (block !== index) {
        yield* finish();
        index = block;
        parts = [];
      }
      const size = Math.min(end, (block + 1) * blockBytes) - offset;
      parts.push({ ...part, offset, size, isWhole: part.isWhole && size === part.row.size });
      offset += size;
    }
  }
  yield* finish();
}

async function putBlock(
  deps: PlainDeps,
  disk: DiskInput,
  { offset, size, parts }: TouchedBlock,
): Promise<BlockRow> {
  const { mirror, guest, pacer, progress, retention, signal } = deps;
  if (parts.every(({ row }) => row.zero)) return { offset, size, zero: true };
  // where no layer has a row, nothing was ever written
  const content = Buffer.alloc(size);
  for (const part of parts) (await guest.readPart(part)).copy(content, part.offset - offset);
  progress.processedBytes += size;
  if (isZero(content)) return { offset, size, zero: true };
  const b3 = blake3(content).toString('hex');
  const borrowed = deps.borrow(offset, size, b3);
  const key = layout.block(disk.point, offset, size);
  if (borrowed !== null || deps.isThere(key)) {
    progress.reusedBytes += size;
    if (borrowed !== null) return borrowed;
  } else {
    await pacer.pace(size, signal);
    await mirror.store.put(key, content, { retention });
    progress.storedBytes += size;
  }
  return { offset, size, b3 };
}

const isZero = (bytes: Buffer): boolean => bytes.equals(ZEROS.subarray(0, bytes.length));
const ZEROS = Buffer.alloc(16 * 1024 * 1024);
