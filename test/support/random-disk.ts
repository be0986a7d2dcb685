import { closeSync, openSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { bytesOf } from './guest-disk.ts';
import { seededRandom } from './seeded-random.ts';

const MIB = 1024 * 1024;

/** A raw disk image that changes at random places, with data and with zeros, and sometimes grows. */
export class RandomDisk {
  readonly path: string;
  readonly #random: ReturnType<typeof seededRandom>;
  #sizeBytes: number;
  /** Nothing before this is changed. */
  firstByte = 0;

  constructor(path: string, sizeMib: number, seed = 1) {
    this.path = path;
    this.#random = seededRandom(seed);
    this.#sizeBytes = sizeMib * MIB;
    writeFileSync(path, '');
    truncateSync(path, this.#sizeBytes);
    this.write(20);
  }

  write(count: number): void {
    const { next, pick } = this.#random;
    const handle = openSync(this.path, 'r+');
    for (let left = count; left > 0; left -= 1) {
      const length = Math.min(
        this.#sizeBytes - this.firstByte,
        512 * Math.ceil(next() * pick([1, 8, 200, 2000])),
      );
      const room = this.#sizeBytes - this.firstByte - length;
      const offset = this.firstByte + Math.floor((next() * room) / 512) * 512;
      const bytes = next() < 0.3 ? Buffer.alloc(length) : bytesOf(String(next()), length);
      writeSync(handle, bytes, 0, length, offset);
    }
    closeSync(handle);
    if (next() < 0.15) {
      this.#sizeBytes += Math.floor(next() * 3) * MIB + 512;
      truncateSync(this.path, this.#sizeBytes);
    }
  }
}
