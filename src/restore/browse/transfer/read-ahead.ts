import type { FileHandle } from 'node:fs/promises';
import { Readable } from 'node:stream';

/** Few enough round trips through loop and FUSE to stay near the disk's speed. */
const READ_BYTES = 1024 * 1024;
/** While one piece is sent the next ones are read. */
const READS_IN_FLIGHT = 3;

/**
 * Streams a range of an open file and closes it at the end, however it ends.
 * @param end included
 */
export function readAhead(handle: FileHandle, start: number, end: number): Readable {
  const stream = Readable.from(pieces(handle, start, end), { objectMode: false, highWaterMark: READ_BYTES });
  // nobody may ever ask for the first piece; the file is closed all the same
  stream.once('close', () => void handle.close().catch(() => undefined));
  return stream;
}

async function* pieces(handle: FileHandle, start: number, end: number): AsyncGenerator<Buffer> {
  const inFlight: Promise<Buffer>[] = [];
  let at = start;
  const begin = () => {
    if (at > end) return;
    const length = Math.min(READ_BYTES, end - at + 1);
    const piece = readPiece(handle, at, length);
    // one that fails is told of in its turn
    piece.catch(() => undefined);
    inFlight.push(piece);
    at += length;
  };
  for (let count = 0; count < READS_IN_FLIGHT; count += 1) begin();
  try {
    for (let piece = inFlight.shift(); piece; piece = inFlight.shift()) {
      const bytes = await piece;
      begin();
      yield bytes;
    }
  } finally {
    // a descriptor must not be closed below a read
    await Promise.allSettled(inFlight);
  }
}

async function readPiece(handle: FileHandle, at: number, length: number): Promise<Buffer> {
  // not from the pool: it is given away
  const buffer = Buffer.allocUnsafeSlow(length);
  for (let filled = 0; filled < length; ) {
    const { bytesRead } = await handle.read(buffer, filled, length - filled, at + filled);
    if (bytesRead === 0) throw new Error(`the file ends at byte ${at + filled}`);
    filled += bytesRead;
  }
  return buffer;
}
