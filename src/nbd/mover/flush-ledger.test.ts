import { expect, it } from 'vitest';
import type { WorkItem } from './block-plan.ts';
import { FlushLedger } from './flush-ledger.ts';
import type { Row, RowWriter } from './rows.ts';

async function* plan(): AsyncGenerator<WorkItem> {
  yield { kind: 'copy', offset: 0, length: 10 };
  yield { kind: 'hole', offset: 10, length: 10 };
}

it('flushes a replayed item that found its bytes in place before its row goes out', async () => {
  const out: Row[] = [];
  const rows = { write: async (row: Row) => void out.push(row) } as unknown as RowWriter;
  const ledger = new FlushLedger(plan(), rows);
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
});
