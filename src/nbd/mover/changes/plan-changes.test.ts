import { expect, it } from 'vitest';
import type { ParentView, WorkItem } from '../plan/block-plan.ts';
import type { SourceExtent } from '../read/block-reader.ts';
import type { ParentRows } from '../rows/parent-rows.ts';
import { BLOCK_BYTES as B, type Row } from '../rows/rows.ts';
import { planChanges } from './plan-changes.ts';

const S = 64 * 1024;
type Kind = 'same' | 'zero' | 'data' | 'same0';

/** Extents one after the other, in steps. */
async function* of(...pieces: [Kind, number][]): AsyncGenerator<SourceExtent> {
  let offset = 0;
  for (const [kind, steps] of pieces) {
    const length = steps * S;
    yield { offset, length, zero: kind === 'zero' || kind === 'same0', changed: !kind.startsWith('same') };
    offset += length;
  }
}

const parentOf = (sizeBytes: number, rows: readonly Row[] = []): ParentView => ({
  sizeBytes,
  rows: {
    covering: async (offset: number, size: number) => {
      const row = rows.find((one) => one.offset === offset && one.size === size);
      return row ? { row, layer: 0 } : null;
    },
  } as unknown as ParentRows,
});
const shown = async (items: AsyncIterable<WorkItem>) =>
  (await Array.fromAsync(items)).map(({ kind, offset, length }) => [kind, offset / S, length / S]);

it('writes changed data, masks changed zeros, and does not even read the rest', async () => {
  const extents = of(['same', 4], ['data', 2], ['zero', 3], ['same0', 7]);
  expect(await shown(planChanges(extents, B, parentOf(B)))).toEqual([
    ['unchanged', 0, 4],
    ['replace', 4, 2],
    ['mask', 6, 3],
    ['unchanged', 9, 7],
  ]);
});

it('never crosses a block boundary with what it reads or masks', async () => {
  const extents = of(['same', 14], ['data', 20], ['zero', 14]);
  expect(await shown(planChanges(extents, 3 * B, parentOf(3 * B)))).toEqual([
    ['unchanged', 0, 14],
    ['replace', 14, 2],
    ['replace', 16, 16],
    ['replace', 32, 2],
    ['mask', 34, 14],
  ]);
});

it('reads a step whole in which only a part changed, or changed to zeros', async () => {
  const extents = of(
    ['same', 1.5],
    ['zero', 1],
    ['same', 1.5],
    ['zero', 2.25],
    ['data', 0.25],
    ['same', 9.5],
  );
  expect(await shown(planChanges(extents, B, parentOf(B)))).toEqual([
    ['unchanged', 0, 1],
    ['replace', 1, 2],
    ['unchanged', 3, 1],
    ['mask', 4, 2],
    ['replace', 6, 1],
    ['unchanged', 7, 9],
  ]);
});

it('takes what a disk grew by as a full does, whatever its bitmap says', async () => {
  const extents = of(['same', 8], ['data', 2], ['same0', 8], ['same', 16], ['same0', 30]);
  expect(await shown(planChanges(extents, 4 * B, parentOf(10 * S)))).toEqual([
    ['unchanged', 0, 8],
    ['replace', 8, 2],
    ['copy', 10, 6],
    ['copy', 16, 16],
    ['copy', 32, 16],
    ['hole', 48, 16],
  ]);
});

it('covers every byte of any disk exactly once, from wherever it is asked again', async () => {
  const size = 5 * B + 1536;
  const pieces = Array.from({ length: size / 512 }, (_, index) => ({
    offset: index * 512,
    length: 512,
    zero: index % 7 < 3,
    changed: index % 900 < 400,
  }));
  const from = (start: number) => ({
    async *[Symbol.asyncIterator]() {
      yield* pieces.filter(({ offset }) => offset >= start);
    },
  });
  const parent = parentOf(3 * B + 512);
  const items = await Array.fromAsync(planChanges(from(0), size, parent));
  let end = 0;
  for (const item of items) {
    expect(item.offset).toBe(end);
    end += item.length;
  }
  expect(end).toBe(size);
  const middle = items[Math.floor(items.length / 2)]?.offset ?? 0;
  const again = await Array.fromAsync(planChanges(from(middle), size, parent, middle));
  expect(again).toEqual(items.filter(({ offset }) => offset >= middle));
});

it('does not believe that nothing changed where zeros stand for data', async () => {
  const rows: Row[] = [{ offset: B, size: B, b3: 'd' }];
  const plan = (row: Row[]) => shown(planChanges(of(['same0', 48]), 3 * B, parentOf(3 * B, row)));
  await expect(plan(rows)).rejects.toMatchObject({ code: 'CHANGES_WRONG', fields: { offset: B } });
  expect(await plan([{ offset: B, size: B, zero: true }])).toEqual([['unchanged', 0, 48]]);
});
