import type { BlockRow } from './block-rows.ts';

/** Bytes of one row in memory; a terabyte has a million rows. */
const ROW_BYTES = 8 + 4 + 4 + 4 + 4 + 4 + 4 + 1 + 32;
const ZERO = 0;
const RAW = 1;
const ZSTD = 2;
const PLAIN = 3;
const NO_SOURCE = 0xffffffff;
const FIRST_CAPACITY = 1024;

/** The rows of one point, packed, to be found by offset. */
export class BlockTable {
  #rows = Buffer.alloc(FIRST_CAPACITY * ROW_BYTES);
  #zeroSizes = new Map<number, number>();
  #count = 0;

  get count(): number {
    return this.#count;
  }

  /** In order of their offsets. */
  add(row: BlockRow): void {
    if ((this.#count + 1) * ROW_BYTES > this.#rows.length)
      this.#rows = Buffer.concat([this.#rows, Buffer.alloc(this.#rows.length)]);
    const at = this.#count * ROW_BYTES;
    const rows = this.#rows;
    rows.writeDoubleLE(row.offset, at);
    if ('zero' in row && row.zero) {
      rows[at + 32] = ZERO;
      // longer than 32 bits: a hole may be as long as the disk
      this.#zeroSizes.set(this.#count, row.size);
    } else {
      const isPacked = 'pack' in row && row.pack !== undefined;
      rows.writeUInt32LE(row.size, at + 8);
      rows.writeUInt32LE(row.raw ?? row.size, at + 12);
      rows.writeUInt32LE(row.skip ?? 0, at + 16);
      rows.writeUInt32LE(
        isPacked ? row.pack : (('from' in row ? row.from : undefined) ?? NO_SOURCE),
        at + 20,
      );
      rows.writeUInt32LE(isPacked ? row.at : 0, at + 24);
      rows.writeUInt32LE(isPacked ? row.len : 0, at + 28);
      rows[at + 32] = isPacked ? (row.codec === 'zstd' ? ZSTD : RAW) : PLAIN;
      rows.write(row.b3, at + 33, 'hex');
    }
    this.#count += 1;
  }

  at(index: number): BlockRow {
    const rows = this.#rows;
    const at = index * ROW_BYTES;
    const offset = rows.readDoubleLE(at);
    const kind = rows[at + 32];
    if (kind === ZERO) return { offset, size: this.#zeroSizes.get(index) ?? 0, zero: true };
    const size = rows.readUInt32LE(at + 8);
    const raw = rows.readUInt32LE(at + 12);
    const skip = rows.readUInt32LE(at + 16);
    const source = rows.readUInt32LE(at + 20);
    const data = {
      offset,
      size,
      b3: rows.toString('hex', at + 33, at + 65),
      ...(raw === size ? {} : { raw }),
      ...(skip === 0 ? {} : { skip }),
    };
    if (kind === PLAIN) return source === NO_SOURCE ? data : { ...data, from: source };
    const place = { pack: source, at: rows.readUInt32LE(at + 24), len: rows.readUInt32LE(at + 28) };
    return { ...data, ...place, codec: kind === ZSTD ? 'zstd' : 'raw' };
  }

  /** @returns the index of the first row that ends behind this byte; `count` when there is none */
  firstBehind(offset: number): number {
    let low = 0;
    let high = this.#count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#endOf(middle) > offset) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  #endOf(index: number): number {
    const at = index * ROW_BYTES;
    const size =
      this.#rows[at + 32] === ZERO ? (this.#zeroSizes.get(index) ?? 0) : this.#rows.readUInt32LE(at + 8);
    return this.#rows.readDoubleLE(at) + size;
  }
}
