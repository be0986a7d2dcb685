import { type FileHandle, open } from 'node:fs/promises';
import { errnoOf, messageOf, SendenseError } from '../../../base/sendense-error.ts';
import { mapImage } from '../../../qemu/qemu-img.ts';
import { type BlockContent, type DigestPool, SlotReadError } from '../digest-pool.ts';
import type { SourceSpec } from './source-spec.ts';

/** A range of the source and whether it is known to read as zeros. */
export interface SourceExtent {
  readonly offset: number;
  readonly length: number;
  readonly zero: boolean;
  /** Since the parent layer; absent when the source does not know. */
  readonly changed?: boolean;
}

/** Where a machine's bytes come from. */
export interface BlockReader extends AsyncDisposable {
  /** What people call this disk. */
  readonly path: string;
  readonly sizeBytes: number;
  /** True when its extents tell what changed since the parent layer. */
  readonly knowsChanges: boolean;
  /** The disk from there on in order, without gaps. Where nothing is known, as data. */
  extents(from: number): AsyncIterable<SourceExtent>;
  /** Reads a block into a slot and says what it contains. @throws SOURCE_READ_FAILED, NbdConnectionLost */
  read(pool: DigestPool, offset: number, slot: number, length: number): Promise<BlockContent>;
  /** Connects anew after a lost connection. */
  reconnect(): Promise<void>;
}

export const readFailure = (path: string, offset: number, detail: string, cause: unknown) =>
  new SendenseError('SOURCE_READ_FAILED', { path, offset, detail }, cause);

/** A raw file or block device read directly: one hop less than NBD. */
export async function openFileReader(spec: SourceSpec & { kind: 'file' }): Promise<BlockReader> {
  const { path, sizeBytes } = spec;
  let handle: FileHandle;
  try {
    handle = await open(path, 'r');
  } catch (error) {
    throw errnoOf(error) === 'ENOENT'
      ? new SendenseError('SOURCE_MISSING', { path }, error)
      : new SendenseError('SOURCE_UNREADABLE', { path, detail: messageOf(error) }, error);
  }
  return {
    path,
    sizeBytes,
    knowsChanges: false,
    extents: (from) => (spec.hasHoles ? fileExtents(path, sizeBytes, from) : whole(sizeBytes, from)),
    read: async (pool, offset, slot, length) => {
      try {
        return await pool.readFile(handle.fd, offset, slot, length);
      } catch (error) {
        if (!(error instanceof SlotReadError)) throw error;
        if (error.errno === null) throw new SendenseError('SOURCE_CHANGED_SIZE', { path }, error);
        throw readFailure(path, offset, error.errno, error);
      }
    },
    reconnect: async () => undefined,
    [Symbol.asyncDispose]: () => handle.close(),
  };
}

async function* whole(sizeBytes: number, from: number): AsyncGenerator<SourceExtent> {
  if (from < sizeBytes) yield { offset: from, length: sizeBytes - from, zero: false };
}

/** Holes of a sparse file, found by qemu-img (SEEK_HOLE, which Node does not offer). */
async function* fileExtents(path: string, sizeBytes: number, from: number): AsyncGenerator<SourceExtent> {
  const extents: SourceExtent[] = [];
  // force-share: a running machine holds the image's lock; only the allocation is read here
  const image = {
    driver: 'raw',
    'read-only': true,
    'force-share': true,
    file: { driver: 'file', filename: path },
  } as const;
  await mapImage(image, (extent) => {
    const last = extents.at(-1);
    if (last && last.zero === extent.zero)
      extents[extents.length - 1] = { ...last, length: last.length + extent.length };
    else extents.push({ offset: extent.offset, length: extent.length, zero: extent.zero });
  });
  let end = from;
  for (const extent of extents) {
    if (extent.offset >= sizeBytes) break;
    const offset = Math.max(extent.offset, from);
    const stop = Math.min(extent.offset + extent.length, sizeBytes);
    if (stop <= offset) continue;
    end = stop;
    yield { ...extent, offset, length: stop - offset };
  }
  if (end < sizeBytes) yield { offset: end, length: sizeBytes - end, zero: false };
}
