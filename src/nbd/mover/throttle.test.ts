import { expect, test } from 'vitest';
import { Throttle } from './throttle.ts';

test('without a rate nobody waits', async () => {
  const throttle = new Throttle();
  const start = performance.now();
  for (let index = 0; index < 1000; index += 1) await throttle.take(1e9);
  expect(performance.now() - start).toBeLessThan(500);
});

test('bytes take the time that the rate says, shared by all who ask', async () => {
  const throttle = new Throttle();
  throttle.setRate(1_000_000);
  const start = performance.now();
  // 10 x 50 KB: half a second, less what may go at once
  await Promise.all(Array.from({ length: 10 }, () => throttle.take(50_000)));
  expect(performance.now() - start).toBeGreaterThan(300);
});

test('a new rate holds at once for who waits already', async () => {
  const throttle = new Throttle();
  throttle.setRate(1);
  await throttle.take(1_000_000);
  const waiting = throttle.take(1_000_000);
  const start = performance.now();
  throttle.setRate(0);
  await waiting;
  expect(performance.now() - start).toBeLessThan(1_000);
});

test('who came first goes first', async () => {
  const throttle = new Throttle();
  throttle.setRate(1_000_000);
  const order: number[] = [];
  await Promise.all(
    Array.from({ length: 20 }, async (_, index) => {
      await throttle.take(20_000);
      order.push(index);
    }),
  );
  expect(order).toEqual(order.toSorted((a, b) => a - b));
});
