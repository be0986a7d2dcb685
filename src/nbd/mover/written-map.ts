import { writeFile } from 'node:fs/promises';
import { STEP_BYTES } from './plan/block-masks.ts';

/**
 * One bit for each 64 KiB of the disk that got data. The seal compares it with the layer's own allocation, an
 * independent proof that every write reached this layer and no other file.
 */
export class WrittenMap {
  readonly bits: Uint8Array;

  constructor(sizeBytesOrBits: number | Uint8Array) {
    this.bits =
      typeof sizeBytesOrBits === 'number'
        ? new Uint8Array(Math.ceil(sizeBytesOrBits / STEP_BYTES / 8))
        : sizeBytesOrBits;
  }

  mark(offset: number, length: number): void {
    this.#each(offset, length, (byte, bit) => {
      this.bits[byte] = (this.bits[byte] ?? 0) | bit;
    });
  }

  unmark(offset: number, length: number): void {
    this.#each(offset, length, (byte, bit) => {
      this.bits[byte] = (this.bits[byte] ?? 0) & ~bit;
    });
  }

  /** The first marked place inside the range, or null. */
  firstMarked(offset: number, length: number): number | null {
    const last = Math.ceil((offset + length) / STEP_BYTES);
    for (let step = Math.floor(offset / STEP_BYTES); step < last; ) {
      const byte = this.bits[step >> 3] ?? 0;
      if (byte === 0) step = ((step >> 3) + 1) << 3;
      else if ((byte & (1 << (step & 7))) !== 0) return step * STEP_BYTES;
      else step += 1;
    }
    return null;
  }

  async save(path: string): Promise<void> {
    await writeFile(path, this.bits);
  }

  #each(offset: number, length: number, visit: (byte: number, bit: number) => void): void {
    const last = Math.ceil((offset + length) / STEP_BYTES);
    for (let step = Math.floor(offset / STEP_BYTES); step < last; step += 1)
      visit(step >> 3, 1 << (step & 7));
  }
}
