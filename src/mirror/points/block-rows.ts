import { zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { SendenseError } from '../../base/sendense-error.ts';
import type { KeyRing } from '../crypto/key-ring.ts';
import { MIRROR_FORMAT } from '../documents.ts';
import { layout } from '../layout.ts';
import type { Codec } from '../packs/packed-block.ts';

interface Place {
  readonly offset: number;
  readonly size: number;
}
/** A part of a block that holds data. `b3`, `raw` and `skip` speak of the whole block. */
interface DataRow extends Place {
  readonly zero?: never;
  readonly b3: string;
  /** Length of the block when only a part of it is seen here. */
  readonly raw?: number;
  /** Where in the block this part begins. */
  readonly skip?: number;
}
/** The block lies in a pack: its number in the list of `chain.json`. */
export interface PackedRow extends DataRow {
  readonly pack: number;
  readonly at: number;
  readonly len: number;
  readonly codec: Codec;
}
/** The block is an object of its own, of this point or of the one with this number in `borrowed` of `chain.json`. */
export interface PlainRow extends DataRow {
  readonly pack?: never;
  readonly from?: number;
}
export interface ZeroRow extends Place {
  readonly zero: true;
}
/** What a guest range contains at a restore point and where that lies; one line of `blocks.json`. */
export type BlockRow = PackedRow | PlainRow | ZeroRow;

/** Rows of one point, in order, as the text of `blocks.json` a piece at a time. */
export class RowsEncoder {
  readonly #pieces: string[] = [];
  #held: BlockRow | null = null;
  #isFirst = true;
  dataRows = 0;
  dataBytes = 0;

  constructor(point: string) {
    this.#pieces.push(`{"format":${MIRROR_FORMAT},"snapshot":${JSON.stringify(point)},"blocks":[\n`);
  }

  add(row: BlockRow): void {
    const held = this.#held;
    if (
      held !== null &&
      'zero' in held &&
      'zero' in row &&
      held.zero &&
      row.zero &&
      held.offset + held.size === row.offset
    ) {
      this.#held = { offset: held.offset, size: held.size + row.size, zero: true };
      return;
    }
    if (held !== null) this.#put(held);
    this.#held = row;
  }

  #put(row: BlockRow): void {
    this.#pieces.push(this.#isFirst ? '' : ',\n', JSON.stringify(row));
    this.#isFirst = false;
    if ('zero' in row && row.zero) return;
    this.dataRows += 1;
    this.dataBytes += row.size;
  }

  finish(keys: KeyRing, point: string): Buffer {
    if (this.#held !== null) this.#put(this.#held);
    const text = Buffer.from(`${this.#pieces.join('')}\n]}\n`);
    return keys.isEncrypted ? keys.seal(zstdCompressSync(text), `rows ${point}`) : text;
  }
}

/**
 * @throws MIRROR_OBJECT_DAMAGED
 */
export function* decodeRows(keys: KeyRing, point: string, body: Buffer): Generator<BlockRow> {
  const damaged = (detail: string) =>
    new SendenseError('MIRROR_OBJECT_DAMAGED', { key: layout.rows(point), detail });
  let text = body;
  if (keys.isEncrypted) {
    const packed = keys.open(body, `rows ${point}`);
    if (packed === null) throw damaged('it does not open with the key of this mirror');
    text = zstdDecompressSync(packed);
  }
  let end = 0;
  let line = 0;
  let isWhole = false;
  for (let from = 0; from < text.length; line += 1) {
    const to = text.indexOf(10, from);
    const stop = to === -1 ? text.length : to;
    const piece = text.toString('latin1', from, text[stop - 1] === 0x2c ? stop - 1 : stop);
    from = stop + 1;
    if (line === 0) {
      if (!piece.startsWith(`{"format":${MIRROR_FORMAT},`)) throw damaged('its beginning is unknown');
    } else if (piece === ']}') isWhole = true;
    else if (piece !== '') {
      const row = parseRow(piece);
      if (row === null || row.offset < end) throw damaged(`line ${line + 1} makes no sense`);
      end = row.offset + row.size;
      yield row;
    }
  }
  if (!isWhole) throw damaged('it is cut off');
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && Number(value) >= 0;

/** By hand and not with a schema: a big disk has millions of rows. */
function parseRow(text: string): BlockRow | null {
  let row: Record<string, unknown>;
  try {
    row = JSON.parse(text) as Record<string, unknown>;
  } catch {
    return null;
  }
  const { offset, size, zero, b3, raw, skip, pack, at, len, codec, from } = row;
  if (!isCount(offset) || !isCount(size) || size === 0) return null;
  if (zero === true) return { offset, size, zero };
  if (typeof b3 !== 'string' || !/^[0-9a-f]{64}$/.test(b3)) return null;
  const whole = raw ?? size;
  const first = skip ?? 0;
  if (!isCount(whole) || !isCount(first) || first + size > whole || whole > MAX_BLOCK_BYTES) return null;
  const data = {
    offset,
    size,
    b3,
    ...(whole === size ? {} : { raw: whole }),
    ...(first === 0 ? {} : { skip: first }),
  };
  if (pack === undefined) return from === undefined ? data : isCount(from) ? { ...data, from } : null;
  if (!isCount(pack) || !isCount(at) || !isCount(len) || (codec !== 'raw' && codec !== 'zstd')) return null;
  return { ...data, pack, at, len, codec };
}

/** No block is longer, in any mode. */
export const MAX_BLOCK_BYTES = 16 * 1024 * 1024;
