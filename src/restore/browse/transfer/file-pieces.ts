import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { errnoOf } from '../../../base/sendense-error.ts';

/** Few enough round trips through loop and FUSE to stay near the disk's speed. */
const PIECE_BYTES = 1024 * 1024;
/** While one piece is sent the next ones are read. */
const READS_IN_FLIGHT = 3;
/** Pieces that a reader may still need: the one it has got last, and the one before. */
const HELD = 2;
/** What every block device and file system takes for a direct read. */
const ALIGNMENT = 4096;
/** Less is read as well through the page cache, which may have it already. */
const MIN_DIRECT_BYTES = 8 * PIECE_BYTES;
const WASM_PAGE_BYTES = 64 * 1024;

interface Range {
  readonly start: number;
  /** The first byte that does not belong to it. */
  readonly end: number;
  /** Past the page cache where the file system can: what is read once would only push out what others need. */
  readonly direct: boolean;
}

/**
 * A range of an open file, piece by piece. A piece is good until the second one after it is asked for; then its memory
 * is used again, since fresh memory costs as much as the reading. The file is closed at the end, however it ends.
 */
export class FilePieces implements AsyncIterable<Buffer> {
  readonly #handle: FileHandle;
  readonly #range: Range;
  readonly #free: ArrayBufferView<ArrayBuffer>[];
  readonly #reading: Promise<Piece>[] = [];
  readonly #held: Piece[] = [];
  #at: number;
  #direct: FileHandle | null = null;
  #isDirect = false;
  #closed: Promise<void> | null = null;

  constructor(handle: FileHandle, range: Range) {
    this.#handle = handle;
    this.#range = range;
    this.#at = range.start;
    this.#free = range.end - range.start > PIECE_BYTES ? alignedSlots(READS_IN_FLIGHT + HELD + 1) : [];
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Buffer> {
    const { start, end, direct } = this.#range;
    try {
      if (direct && end - start >= MIN_DIRECT_BYTES) this.#direct = await openDirect(this.#handle);
      this.#isDirect = this.#direct !== null;
      while (this.#reading.length < READS_IN_FLIGHT && this.#at < end) this.#begin();
      for (let reading = this.#reading.shift(); reading; reading = this.#reading.shift()) {
        const piece = await reading;
        if (this.#held.length === HELD) this.#free.push((this.#held.shift() as Piece).slot);
        this.#held.push(piece);
        if (this.#at < end) this.#begin();
        yield piece.bytes;
      }
    } finally {
      await this.close();
    }
  }

  /** Also of use when nobody ever asked for the first piece. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    this.#at = this.#range.end;
    // a descriptor must not be closed below a read
    await Promise.allSettled(this.#reading);
    await this.#direct?.close();
    await this.#handle.close();
  }

  /** Pieces end at multiples of their size, so that all but the first begin aligned. */
  #begin(): void {
    const end = Math.min(this.#range.end, (Math.floor(this.#at / PIECE_BYTES) + 1) * PIECE_BYTES);
    const slot = this.#free.pop() ?? Buffer.allocUnsafeSlow(PIECE_BYTES);
    const reading = this.#read(slot, this.#at, end);
    // one that fails is told of in its turn
    reading.catch(() => undefined);
    this.#reading.push(reading);
    this.#at = end;
  }

  async #read(slot: ArrayBufferView<ArrayBuffer>, start: number, end: number): Promise<Piece> {
    // a direct read begins and ends at a block, so it reads a little more
    const from = start - (start % ALIGNMENT);
    const length = Math.ceil((end - from) / ALIGNMENT) * ALIGNMENT;
    const whole = Buffer.from(slot.buffer, slot.byteOffset, length);
    for (let filled = 0; filled < end - from; ) {
      const bytesRead = await this.#readSome(whole.subarray(filled), from + filled);
      filled += bytesRead;
      // a direct read is cut off inside a block at the end of the file only
      const isLast = bytesRead === 0 || (this.#isDirect && bytesRead % ALIGNMENT !== 0);
      if (isLast && filled < end - from) throw new Error(`the file ends at byte ${from + filled}`);
    }
    return { slot, bytes: whole.subarray(start - from, end - from) };
  }

  async #readSome(into: Buffer, at: number): Promise<number> {
    if (this.#isDirect && this.#direct) {
      try {
        return (await this.#direct.read(into, 0, into.length, at)).bytesRead;
      } catch (error) {
        // it could be opened so, and cannot be read so
        if (errnoOf(error) !== 'EINVAL') throw error;
        this.#isDirect = false;
      }
    }
    return (await this.#handle.read(into, 0, into.length, at)).bytesRead;
  }
}

interface Piece {
  readonly slot: ArrayBufferView<ArrayBuffer>;
  readonly bytes: Buffer;
}

/** The memory of a WebAssembly module is the only one here that is sure to begin at a page. */
function alignedSlots(count: number): ArrayBufferView<ArrayBuffer>[] {
  const pages = (count * PIECE_BYTES) / WASM_PAGE_BYTES;
  const { buffer } = new WebAssembly.Memory({ initial: pages, maximum: pages });
  return Array.from(
    { length: count },
    (_, index) => new Uint8Array(buffer, index * PIECE_BYTES, PIECE_BYTES),
  );
}

/** Null where the file system does not know it. */
const openDirect = async (handle: FileHandle): Promise<FileHandle | null> =>
  await open(`/proc/self/fd/${handle.fd}`, constants.O_RDONLY | constants.O_DIRECT).catch(() => null);
