import { type FileHandle, open } from 'node:fs/promises';
import { errnoOf, messageOf, SendenseError } from '../../base/sendense-error.ts';
import { mapImage } from '../../qemu/qemu-img.ts';
import { NbdConnection } from '../client/nbd-connection.ts';
import { NbdReplyError } from '../client/protocol.ts';
import { type BlockContent, type DigestPool, SlotReadError } from './digest-pool.ts';
import type { SourceSpec } from './source-spec.ts';

/** A range of the source and whether it is known to read as zeros. */
export interface SourceExtent {
  readonly offset: number;
  readonly length: number;
  readonly zero: boolean;
}

/** Where a machine's bytes come from. */
export interface BlockReader extends AsyncDisposable {
  readonly sizeBytes: number;
  /** The whole disk in order, without gaps. Where nothing is known, as data. */
  extents(): AsyncIterable<SourceExtent>;
  /** Reads a block into a slot and says what it contains. @throws SOURCE_READ_FAILED, NbdConnectionLost */
  read(pool: DigestPool, offset: number, slot: number, length: number): Promise<BlockContent>;
  /** Connects anew after a lost connection. */
  reconnect(): Promise<void>;
}

/** NBD block status is asked for in ranges of this size, the protocol's requests being 32 bits. */
const STATUS_BYTES = 1024 ** 3;

export function openReader(spec: SourceSpec): Promise<BlockReader> {
  return spec.kind === 'file' ? openFileReader(spec) : openNbdReader(spec);
}

const readFailure = (path: string, offset: number, detail: string, cause: unknown) =>
  new SendenseError('SOURCE_READ_FAILED', { path, offset, detail }, cause);

/** A raw file or block device read directly: one hop less than NBD. */
async function openFileReader(spec: SourceSpec & { kind: 'file' }): Promise<BlockReader> {
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
    sizeBytes,
    extents: () => (spec.hasHoles ? fileExtents(path, sizeBytes) : whole(sizeBytes)),
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

async function* whole(length: number): AsyncGenerator<SourceExtent> {
  yield { offset: 0, length, zero: false };
}

/** Holes of a sparse file, found by qemu-img (SEEK_HOLE, which Node does not offer). */
async function* fileExtents(path: string, sizeBytes: number): AsyncGenerator<SourceExtent> {
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
  let end = 0;
  for (const extent of extents) {
    if (extent.offset >= sizeBytes) break;
    const length = Math.min(extent.length, sizeBytes - extent.offset);
    end = extent.offset + length;
    yield { ...extent, length };
  }
  if (end < sizeBytes) yield { offset: end, length: sizeBytes - end, zero: false };
}

/** An NBD export, for sources that are no plain bytes (qcow2). */
async function openNbdReader(spec: SourceSpec & { kind: 'nbd' }): Promise<BlockReader> {
  const { path, sizeBytes, endpoint } = spec;
  let connection = await NbdConnection.connect(endpoint, { wantAllocation: true });
  return {
    sizeBytes,
    extents: async function* () {
      for (let offset = 0; offset < sizeBytes; ) {
        const wanted = Math.min(STATUS_BYTES, sizeBytes - offset);
        const answers = connection.canReportAllocation
          ? await connection.blockStatus(offset, wanted)
          : [{ length: wanted, zero: false }];
        for (const answer of answers) {
          const length = Math.min(answer.length, sizeBytes - offset);
          if (length > 0) yield { offset, length, zero: answer.zero };
          offset += length;
        }
      }
    },
    read: async (pool, offset, slot, length) => {
      try {
        await connection.read(offset, pool.slot(slot, length));
      } catch (error) {
        // an answer means that the image itself cannot be read there; asking again would not help
        if (error instanceof NbdReplyError) throw readFailure(path, offset, error.errno, error);
        throw error;
      }
      return await pool.digest(slot, length);
    },
    reconnect: async () => {
      connection.destroy();
      connection = await NbdConnection.connect(endpoint, { wantAllocation: true });
    },
    [Symbol.asyncDispose]: () => connection.close(),
  };
}
