import { expect, it } from 'vitest';
import { FlushLedger } from './flush-ledger.ts';
import type { WorkItem } from './plan/block-plan.ts';
import type { Row, RowSink } from './rows/rows.ts';

async function* plan(): AsyncGenerator<WorkItem> {
  yield { kind: 'copy', offset: 0, length: 10 };
  yield { kind: 'hole', offset: 10, length: 10 };
}

it('flushes a replayed item that found its bytes in place before its row goes out', async () => {
  const out: Row[] = [];
  const reached: number[] = [];
  const rows: RowSink = {
    write: async (row) => void out.push(row),
    reached: async (until) => void reached.push(until),
  };
  const ledger = new FlushLedger(plan, rows);
  const zero = (offset: number): Row => ({ offset, size: 10, zero: true });
  const first = await ledger.take();
  ledger.done(first?.sequence ?? -1, zero(0), 10);
  expect(ledger.replayUnflushed()).toHaveLength(1);
  const again = await ledger.take();
  expect(again?.isReplay).toBe(true);
  ledger.done(again?.sequence ?? -1, zero(0), 0);
  const hole = await ledger.take();
  ledger.done(hole?.sequence ?? -1, zero(10), 0);
  let flushes = 0;
  await ledger.flushed(async () => {
    expect(out).toEqual([]);
    flushes += 1;
  });
  expect(flushes).toBe(1);
  expect(out).toEqual([zero(0), zero(10)]);
  expect(reached.at(-1)).toBe(20);
});

it('plans on where the source was lost, and does not take that for the end', async () => {
  const rows: RowSink = { write: async () => undefined, reached: async () => undefined };
  const starts: number[] = [];
  async function* breaking(from: number): AsyncGenerator<WorkItem> {
    starts.push(from);
    for (let offset = from; offset < 50; offset += 10) {
      if (offset === 20 && starts.length === 1) throw new Error('lost');
      yield { kind: 'copy', offset, length: 10 };
    }
  }
  const ledger = new FlushLedger(breaking, rows);
  const taken: (number | undefined)[] = [];
  taken.push((await ledger.take())?.item.offset, (await ledger.take())?.item.offset);
  await expect(ledger.take()).rejects.toThrow('lost');
  for (let item = await ledger.take(); item !== null; item = await ledger.take())
    taken.push(item.item.offset);
  expect(taken).toEqual([0, 10, 20, 30, 40]);
  expect(starts).toEqual([0, 20]);
});

it('goes on where another attempt ended, and looks again at what that one may have written', async () => {
  const reached: number[] = [];
  const rows: RowSink = { write: async () => undefined, reached: async (until) => void reached.push(until) };
  async function* rest(from: number): AsyncGenerator<WorkItem> {
    for (let offset = from; offset < 50; offset += 10) yield { kind: 'copy', offset, length: 10 };
  }
  const ledger = new FlushLedger(rest, rows, { from: 20, replayUntil: 35 });
  const taken: [number, boolean][] = [];
  for (let item = await ledger.take(); item !== null; item = await ledger.take()) {
    taken.push([item.item.offset, item.isReplay]);
    ledger.done(item.sequence, null, 0);
  }
  expect(taken).toEqual([
    [20, true],
    [30, true],
    [40, false],
  ]);
  await ledger.flushed(async () => undefined);
  expect(reached).toEqual([50]);
});
