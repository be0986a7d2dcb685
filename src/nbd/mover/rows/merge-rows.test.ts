import { expect, it } from 'vitest';
import { seededRandom } from '../../../../test/support/seeded-random.ts';
import { type MergedRow, mergeRows } from './merge-rows.ts';

async function* stream(rows: readonly MergedRow[]): AsyncGenerator<MergedRow> {
  yield* rows;
}
async function merged(...layers: MergedRow[][]): Promise<MergedRow[]> {
  const rows: MergedRow[] = [];
  for await (const row of mergeRows(layers.map(stream))) rows.push(row);
  return rows;
}
const data = (offset: number, size: number, b3: string): MergedRow => ({ offset, size, b3 });
const zero = (offset: number, size: number): MergedRow => ({ offset, size, zero: true });
const unknown = (offset: number, size: number): MergedRow => ({ offset, size, unknown: true });

it('lets the newest row win', async () => {
  expect(await merged([data(10, 10, 'n')], [data(0, 10, 'a'), data(10, 10, 'b'), data(20, 10, 'c')])).toEqual(
    [data(0, 10, 'a'), data(10, 10, 'n'), data(20, 10, 'c')],
  );
});

it('cuts zeros, and says where a digest was cut', async () => {
  expect(await merged([data(10, 10, 'n')], [zero(0, 100)])).toEqual([
    zero(0, 10),
    data(10, 10, 'n'),
    zero(20, 80),
  ]);
  expect(await merged([data(10, 10, 'n')], [data(5, 20, 'o')])).toEqual([
    unknown(5, 5),
    data(10, 10, 'n'),
    unknown(20, 5),
  ]);
});

it('shadows several older rows by one newer', async () => {
  expect(await merged([zero(0, 30)], [data(0, 10, 'a'), data(10, 10, 'b'), data(20, 20, 'c')])).toEqual([
    zero(0, 30),
    unknown(30, 10),
  ]);
});

it('agrees with painting byte by byte', async () => {
  const { next, pick } = seededRandom(7);
  for (let round = 0; round < 200; round += 1) {
    const layers = Array.from({ length: pick([1, 2, 3, 5]) }, (_, layer) => {
      const rows: MergedRow[] = [];
      for (let offset = 0; offset < 60; ) {
        const size = 1 + Math.floor(next() * 9);
        if (next() < 0.5)
          rows.push(next() < 0.4 ? zero(offset, size) : data(offset, size, `${layer}:${offset}`));
        offset += size;
      }
      return rows;
    });
    const paint: (MergedRow | null)[] = Array.from({ length: 80 }, () => null);
    for (const rows of layers.toReversed())
      for (const row of rows) paint.fill(row, row.offset, row.offset + row.size);
    const result = await merged(...layers);
    let end = 0;
    for (const row of result) {
      expect(row.offset).toBeGreaterThanOrEqual(end);
      expect(paint.slice(end, row.offset).every((owner) => owner === null)).toBe(true);
      end = row.offset + row.size;
      for (const owner of paint.slice(row.offset, end)) {
        if ('zero' in row) expect(owner && 'zero' in owner).toBe(true);
        else if ('b3' in row) expect(owner).toEqual(row);
        else expect(owner && 'b3' in owner && owner.size > row.size).toBe(true);
      }
    }
    expect(paint.slice(end).every((owner) => owner === null)).toBe(true);
  }
});
