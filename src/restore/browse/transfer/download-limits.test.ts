import { expect, test } from 'vitest';
import { DownloadLimits, PACED_BYTES } from './download-limits.ts';

const never = new AbortController().signal;

test('places are counted per mount and in all, and given back once', () => {
  const limits = new DownloadLimits({ max: 3, maxPerMount: 2, mibPerSecond: 0 });
  const first = limits.enter('a');
  limits.enter('a');
  expect(() => limits.enter('a')).toThrow(expect.objectContaining({ code: 'LIMIT_REACHED' }));
  limits.enter('b');
  expect(() => limits.enter('b')).toThrow('Too many downloads at once: the limit is 3.');
  first[Symbol.dispose]();
  first[Symbol.dispose]();
  expect(limits.running).toBe(2);
  limits.enter('a');
  expect(() => limits.enter('c')).toThrow();
});

test('two downloads share the speed evenly, and together keep to it', async () => {
  const limits = new DownloadLimits({ max: 9, maxPerMount: 9, mibPerSecond: 4 });
  const stop = new AbortController();
  const sent = [0, 0];
  const started = performance.now();
  const pump = async (index: number) => {
    for (;;) {
      await limits.pace(PACED_BYTES, stop.signal);
      sent[index] = (sent[index] ?? 0) + PACED_BYTES;
    }
  };
  setTimeout(() => stop.abort(), 600);
  await Promise.allSettled([pump(0), pump(1)]);
  const seconds = (performance.now() - started) / 1000;
  const [one = 0, two = 0] = sent;
  expect(one + two).toBeLessThan((seconds * 4 + 0.2) * 1024 * 1024);
  expect(one + two).toBeGreaterThan(seconds * 2 * 1024 * 1024);
  expect(Math.abs(one - two)).toBeLessThanOrEqual(2 * PACED_BYTES);
});

test('who gives up while waiting is released at once', async () => {
  const limits = new DownloadLimits({ max: 9, maxPerMount: 9, mibPerSecond: 1 });
  await limits.pace(100 * 1024 * 1024, never);
  const started = performance.now();
  await expect(limits.pace(1, AbortSignal.timeout(30))).rejects.toThrow();
  expect(performance.now() - started).toBeLessThan(1000);
});
