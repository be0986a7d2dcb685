import { SendenseError } from '../../base/sendense-error.ts';
import { layout } from '../layout.ts';
import type { Mirror } from '../mirror.ts';
import { isBlock, openBlock } from '../packs/read-frame.ts';
import type { PackedRow, PlainRow } from '../points/block-rows.ts';
import { homeOf } from '../points/home-of.ts';
import type { OpenPoint } from '../points/read-point.ts';

/** A row that holds data, and the object that it lies in. */
export interface PlacedRow {
  readonly row: PackedRow | PlainRow;
  readonly key: string;
  /** Of a pack; null: the object is the block. */
  readonly packId: string | null;
  /** In the object, bytes. */
  readonly at: number;
  readonly length: number;
}

/** @param index of a row of this point @returns null for zeros, which have no object */
export function placedRow(point: OpenPoint, index: number): PlacedRow | null {
  const row = point.table.at(index);
  if ('zero' in row && row.zero) return null;
  if ('pack' in row && row.pack !== undefined) {
    const packId = point.chain.packs[row.pack] ?? '';
    return { row, key: layout.pack(packId), packId, at: row.at, length: row.len };
  }
  const length = row.raw ?? row.size;
  const key = layout.block(homeOf(point, row) ?? '', row.offset - (row.skip ?? 0), length);
  return { row, key, packId: null, at: 0, length };
}

/**
 * Reads all that these rows need of one object with one request, and opens each block.
 * @returns guest bytes that were proven
 * @throws MIRROR_OBJECT_DAMAGED, MIRROR_OBJECT_MISSING
 */
export async function readObject(mirror: Mirror, rows: readonly PlacedRow[]): Promise<number> {
  const [first] = rows;
  if (!first) return 0;
  const { key } = first;
  const from = Math.min(...rows.map(({ at }) => at));
  const to = Math.max(...rows.map(({ at, length }) => at + length));
  const { body } = await mirror.store.get(key, { offset: from, length: to - from });
  let bytes = 0;
  for (const { row, packId, at, length } of rows) {
    const piece = body.subarray(at - from, at - from + length);
    const rawBytes = row.raw ?? row.size;
    if (packId !== null && row.pack !== undefined) {
      const { b3, len, codec } = row;
      openBlock(mirror.keys, packId, { b3, rawBytes, at, len, codec }, piece);
    } else if (!isBlock(piece, row.b3))
      throw new SendenseError('MIRROR_OBJECT_DAMAGED', {
        key,
        detail: 'its content is not what its digest says',
      });
    bytes += rawBytes;
  }
  return bytes;
}
