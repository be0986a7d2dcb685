import { expect, test } from 'vitest';
import type { Row } from '../../nbd/mover/rows/rows.ts';
import { mergeRows, type VisiblePart } from './visible-rows.ts';

async function* of(rows: readonly Row[]): AsyncGenerator<Row> {
  yield* rows;
}
const data = (offset: number, size: number, b3 = 'd'): Row => ({ offset, size, b3 });
const zero = (offset: number, size: number): Row => ({ offset, size, zero: true });

async function merged(...layers: Row[][]): Promise<(string | number)[][]> {
  const parts: VisiblePart[] = [];
  for await (const part of mergeRows(layers.map(of))) parts.push(part);
  return parts.map((part) => [part.offset, part.size, part.layer, part.isWhole ? 'whole' : 'part']);
}

test('the newest row wins, and the older ones show where it has none', async () => {
  expect(await merged([data(10, 10)], [data(0, 10), data(10, 10), data(20, 10)])).toEqual([
    [0, 10, 1, 'whole'],
    [10, 10, 0, 'whole'],
    [20, 10, 1, 'whole'],
  ]);
});

test('a long zero row shows between newer rows inside it', async () => {
  expect(await merged([data(10, 5), data(30, 5)], [zero(0, 100)])).toEqual([
    [0, 10, 1, 'part'],
    [10, 5, 0, 'whole'],
    [15, 15, 1, 'part'],
    [30, 5, 0, 'whole'],
    [35, 65, 1, 'part'],
  ]);
});

test('rows that overlap partly are cut at the newer one', async () => {
  expect(await merged([data(5, 10)], [data(0, 10), data(10, 10)])).toEqual([
    [0, 5, 1, 'part'],
    [5, 10, 0, 'whole'],
    [15, 5, 1, 'part'],
  ]);
});

test('what no row covers is not given out', async () => {
  expect(await merged([data(50, 10)], [data(10, 10)], [])).toEqual([
    [10, 10, 1, 'whole'],
    [50, 10, 0, 'whole'],
  ]);
  expect(await merged([], [])).toEqual([]);
});

test('three layers agree with a byte by byte look', async () => {
  const layers = [[zero(3, 4), data(20, 2)], [data(0, 5), zero(18, 10)], [zero(0, 40)]];
  const expected = Array.from({ length: 40 }, (_, at) =>
    layers.findIndex((rows) => rows.some((row) => row.offset <= at && at < row.offset + row.size)),
  );
  const seen: number[] = [];
  for await (const part of mergeRows(layers.map(of)))
    for (let at = 0; at < part.size; at += 1) seen[part.offset + at] = part.layer;
  expect(seen).toEqual(expected);
});
