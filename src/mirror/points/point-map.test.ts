import { expect, it } from 'vitest';
import { KeyRing } from '../crypto/key-ring.ts';
import { type BlockRow, decodeRows, RowsEncoder } from './block-rows.ts';
import { BlockTable } from './block-table.ts';
import { seenParts } from './point-map.ts';

const UNIT = 4096;
const UNITS = 64;
const b3 = (number: number) => number.toString(16).padStart(64, '0');
const keys = new KeyRing('11111111-1111-4111-8111-111111111111', Buffer.alloc(32, 1));

/** A few rows without overlaps, in order; each has its own digest. */
function someRows(layer: number): BlockRow[] {
  const rows: BlockRow[] = [];
  for (let at = 0; at < UNITS; ) {
    at += Math.floor(Math.random() * 8);
    const length = Math.min(1 + Math.floor(Math.random() * 8), UNITS - at);
    if (length <= 0) break;
    const place = { offset: at * UNIT, size: length * UNIT };
    const number = layer * 1000 + at;
    if (number % 3 === 0) rows.push({ ...place, zero: true });
    else if (number % 3 === 1)
      rows.push({ ...place, b3: b3(number), pack: layer, at: number, len: 7, codec: 'zstd' });
    else rows.push({ ...place, b3: b3(number), raw: length * UNIT + UNIT, skip: UNIT, from: layer });
    at += length;
  }
  return rows;
}

it('shows at each byte the newest row that is there, and rows come back as they were written', () => {
  for (let run = 0; run < 200; run += 1) {
    const layers = [someRows(1), someRows(2), someRows(3)];
    const tables = layers.map((rows) => {
      const encoder = new RowsEncoder('p');
      for (const row of rows) encoder.add(row);
      const table = new BlockTable();
      for (const row of decodeRows(keys, 'p', encoder.finish(keys, 'p'))) table.add(row);
      return table;
    });
    const wanted = Array.from({ length: UNITS }, (_, unit) => {
      for (const rows of layers) {
        const row = rows.find(({ offset, size }) => unit * UNIT >= offset && unit * UNIT < offset + size);
        if (row) return 'zero' in row && row.zero ? 'zero' : row.b3;
      }
      return null;
    });
    const from = Math.floor(Math.random() * UNITS) * UNIT;
    const found: (string | null | undefined)[] = [];
    for (const { size, row } of seenParts(tables, from, UNITS * UNIT))
      for (let done = 0; done < size; done += UNIT)
        found.push(row === null ? null : 'zero' in row && row.zero ? 'zero' : row.b3);
    expect(found).toEqual(wanted.slice(from / UNIT));
  }
});

it('keeps all that a row says, also far beyond four gigabytes', () => {
  const rows: BlockRow[] = [
    { offset: 0, size: 5 * 1024 ** 4, zero: true },
    {
      offset: 5 * 1024 ** 4,
      size: UNIT,
      b3: b3(1),
      pack: 4_000_000,
      at: 2 ** 31,
      len: 2 ** 31,
      codec: 'raw',
    },
    { offset: 6 * 1024 ** 4, size: UNIT, b3: b3(2) },
    { offset: 7 * 1024 ** 4, size: UNIT, b3: b3(3), raw: 2 * UNIT, skip: UNIT, from: 3 },
  ];
  const table = new BlockTable();
  for (const row of rows) table.add(row);
  expect(rows.map((_, index) => table.at(index))).toEqual(rows);
});

it.each([
  ['cut off', (body: Buffer) => body.subarray(0, -4)],
  ['of another point', (body: Buffer) => Buffer.from(body.toString().replace('"format":1', '"format":2'))],
  [
    'with rows that overlap',
    (body: Buffer) => Buffer.from(body.toString().replace('"offset":8192', '"offset":100')),
  ],
  [
    'with a part that is longer than its block',
    (body: Buffer) => Buffer.from(body.toString().replace('"size":4096', '"size":99999999')),
  ],
])('rows %s are refused', (_what, harm) => {
  const open = new KeyRing('11111111-1111-4111-8111-111111111111', null);
  const encoder = new RowsEncoder('p');
  encoder.add({ offset: 0, size: UNIT, b3: b3(1) });
  encoder.add({ offset: 2 * UNIT, size: UNIT, b3: b3(2) });
  const body = encoder.finish(open, 'p');
  expect([...decodeRows(open, 'p', body)]).toHaveLength(2);
  expect(() => [...decodeRows(open, 'p', harm(body))]).toThrow(/MIRROR_OBJECT_DAMAGED|damaged/);
});
