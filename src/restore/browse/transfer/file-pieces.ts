import type { FileHandle } from 'node:fs/promises';

/** Few enough round trips through loop and FUSE to stay near the disk's speed. */
const PIECE_BYTES = 1024 * 1024;
/** While one piece is sent the next ones are read. */
const READS_IN_FLIGHT = 3;
/** Pieces that a reader may still need: the one it has got last, and the one before. */
const HELD = 2;

/**
 * A range of an open file, piece by piece. A piece is good until the second one after it is asked for; then its memory
 * is used again, since fresh memory costs as much as the reading. The file is closed at the end, however it ends.
 */
export class FilePieces implements AsyncIterable<Buffer> {
  readonly #handle: FileHandle;
  readonly #end: number;
  readonly #free: Buffer[] = [];
  readonly #reading: Promise<Buffer>[] = [];
  readonly #held: Buffer[] = [];
  #at: number;
  #closed: Promise<void> | null = null;

  /** @param end the first byte that does not belong to it */
  constructor(handle: FileHandle, start: number, end: number) {
    this.#handle = handle;
    this.#at = start;
    this.#end = end;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Buffer> {
    try {
      while (this.#reading.length < READS_IN_FLIGHT && this.#at < this.#end) this.#begin();
      for (let reading = this.#reading.shift(); reading; reading = this.#reading.shift()) {
        const piece = await reading;
        if (this.#held.length === HELD) this.#free.push(this.#held.shift() as Buffer);
        this.#held.push(piece);
        if (this.#at < this.#end) this.#begin();
        yield piece;
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
    this.#at = this.#end;
    // a descriptor must not be closed below a read
    await Promise.allSettled(this.#reading);
    await this.#handle.close();
  }

  #begin(): void {
    const length = Math.min(PIECE_BYTES, this.#end - this.#at);
    const whole = this.#free.pop()?.buffer ?? new ArrayBuffer(PIECE_BYTES);
    const reading = this.#fill(Buffer.from(whole, 0, length), this.#at);
    // one that fails is told of in its turn
    reading.catch(() => undefined);
    this.#reading.push(reading);
    this.#at += length;
  }

  async #fill(piece: Buffer, at: number): Promise<Buffer> {
    for (let filled = 0; filled < piece.length; ) {
      const { bytesRead } = await this.#handle.read(piece, filled, piece.length - filled, at + filled);
      if (bytesRead === 0) throw new Error(`the file ends at byte ${at + filled}`);
      filled += bytesRead;
    }
    return piece;
  }
}
