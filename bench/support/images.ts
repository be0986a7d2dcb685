import { randomBytes } from 'node:crypto';
import { closeSync, openSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { bytesOf } from '../../test/support/guest-disk.ts';

const MIB = 1024 * 1024;

function makeText(seed: string): Buffer {
  const words =
    bytesOf(seed, 4096)
      .toString('hex')
      .match(/.{1,7}/g) ?? [];
  return Buffer.from(`${words.join(' ')}\n`.repeat(130)).subarray(0, MIB);
}

/** `runs`: byte lengths of data runs, each followed by a hole of the same length; half random, half text. */
export function makeImage(path: string, sizeMib: number, runs: () => number, dataMib: number): void {
  writeFileSync(path, '');
  truncateSync(path, sizeMib * MIB);
  const handle = openSync(path, 'r+');
  let offset = 0;
  for (let written = 0, count = 0; written < dataMib * MIB; count += 1) {
    const length = Math.min(runs(), dataMib * MIB - written);
    for (let done = 0; done < length; done += MIB) {
      const piece = Math.min(MIB, length - done);
      const bytes =
        count % 2 === 0
          ? bytesOf(`${path}${offset + done}`, piece)
          : makeText(`${offset + done}`).subarray(0, piece);
      writeSync(handle, bytes, 0, bytes.length, offset + done);
    }
    written += length;
    offset += 2 * length;
    if (offset + length > sizeMib * MIB) break;
  }
  closeSync(handle);
}

/** Writes random megabytes, spread over the whole image. @returns how many bytes */
export function change(path: string, sizeMib: number, percent: number, dataMib: number): number {
  const handle = openSync(path, 'r+');
  const count = Math.ceil((dataMib * percent) / 100);
  for (let index = 0; index < count; index += 1) {
    // aligned to the 64 KiB steps: the layer's size is measured against this
    const offset = Math.floor(((index + 0.5) * sizeMib) / count) * MIB;
    writeSync(handle, randomBytes(MIB), 0, MIB, offset);
  }
  closeSync(handle);
  return count * MIB;
}
