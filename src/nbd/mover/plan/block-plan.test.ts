import { expect, it } from 'vitest';
import type { SourceExtent } from '../read/block-reader.ts';
import { BLOCK_BYTES as B } from '../rows/rows.ts';
import { alignToBlocks, planBlocks } from './block-plan.ts';

async function* of(...extents: SourceExtent[]) {
  yield* extents;
}
const collect = async <T>(items: AsyncIterable<T>): Promise<T[]> => await Array.fromAsync(items);

it('takes a block for a hole only when all of it is', async () => {
  const extents = of(
    { offset: 0, length: B / 2, zero: false },
    { offset: B / 2, length: 3 * B, zero: true },
    { offset: 3.5 * B, length: 512, zero: false },
    { offset: 3.5 * B + 512, length: 2 * B, zero: true },
  );
  expect(await collect(alignToBlocks(extents, 5.5 * B + 512))).toEqual([
    { offset: 0, length: B, zero: false },
    { offset: B, length: 2 * B, zero: true },
    { offset: 3 * B, length: B, zero: false },
    { offset: 4 * B, length: 1.5 * B + 512, zero: true },
  ]);
});

it('covers every byte once, also when small holes and data alternate', async () => {
  const size = 7 * B + 1536;
  const pieces = Array.from({ length: size / 512 }, (_, index) => ({
    offset: index * 512,
    length: 512,
    zero: index % 3 !== 0,
  }));
  const ranges = await collect(alignToBlocks(of(...pieces), size));
  let end = 0;
  for (const range of ranges) {
    expect(range.offset).toBe(end);
    end += range.length;
  }
  expect(end).toBe(size);
  expect(ranges.every((range) => !range.zero)).toBe(true);
});

it('makes one piece of work of a hole in a full, whatever its size', async () => {
  expect(await collect(planBlocks(of({ offset: 0, length: 900 * B, zero: true }), 900 * B, null))).toEqual([
    { kind: 'hole', offset: 0, length: 900 * B },
  ]);
});
