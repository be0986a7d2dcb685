import { expect, test } from 'vitest';
import { rateAt } from './rate-at.ts';

const plan = {
  rateBytes: 100,
  timeZone: 'Europe/Vienna',
  windows: [
    { from: '08:00', to: '18:00', rateBytes: 5 },
    { from: '22:00', to: '02:00', rateBytes: 0 },
  ],
};

test.each([
  // summer: two hours ahead of UTC
  ['2026-07-01T05:59:59Z', 100],
  ['2026-07-01T06:00:00Z', 5],
  ['2026-07-01T15:59:59Z', 5],
  ['2026-07-01T16:00:00Z', 100],
  // winter: one hour
  ['2026-01-01T06:30:00Z', 100],
  ['2026-01-01T07:00:00Z', 5],
  // over midnight
  ['2026-01-01T21:00:00Z', 0],
  ['2026-01-02T00:59:00Z', 0],
  ['2026-01-02T01:00:00Z', 100],
])('at %s it is %i', (instant, rate) => {
  expect(rateAt(plan, new Date(instant))).toBe(rate);
});

test('without windows there is one rate', () => {
  expect(rateAt({ ...plan, windows: [] }, new Date('2026-01-01T12:00:00Z'))).toBe(100);
});
