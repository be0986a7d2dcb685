import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { ask } from '../support/in-process-rest.ts';

const appliance = new TestAppliance();
beforeAll(() => appliance.start());
afterAll(() => appliance.dispose());

interface Report {
  readonly ok: boolean;
  readonly rows: number;
  readonly head: { readonly id: number };
  readonly anchor: { readonly id: number } | null;
}
const verify = () => appliance.json<Report>('events', 'verify');

test('the chain of events holds over requests beside each other, and over a kill in the middle of them', async () => {
  const socket = join(appliance.home, 'run', 'sendensed.sock');
  const plan = () => ask(socket, 'POST', '/prune/plan', {});
  const before = verify().rows;
  await Promise.all(Array.from({ length: 20 }, plan));
  const after = verify();
  expect(after).toMatchObject({ ok: true, rows: before + 20 });

  let answered = 0;
  const many = Array.from({ length: 100 }, () =>
    plan().then(
      () => {
        answered += 1;
      },
      () => undefined, // the kill
    ),
  );
  await expect.poll(() => answered, { timeout: 30_000, interval: 1 }).toBeGreaterThan(20);
  await appliance.kill();
  await Promise.all(many);
  await appliance.start();
  const killed = verify();
  expect(killed).toMatchObject({ ok: true });
  // whoever got an answer stands in the log
  expect(killed.rows).toBeGreaterThanOrEqual(after.rows + answered);
  expect(
    appliance.json<{ events: { kind: string }[] }>('events').events.map(({ kind }) => kind),
  ).not.toContain('events.broken');
});
