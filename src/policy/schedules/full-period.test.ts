import { expect, test } from 'vitest';
import { type FullRule, needsFull } from './full-period.ts';

const at = (text: string): number => Date.parse(text);

// 2026-05-03 is a Sunday
test.each<[FullRule['full'], FullRule['full_on'], string | null, string, boolean]>([
  ['never', 'sun', null, '2026-05-03T22:00Z', false],
  ['weekly', 'sun', null, '2026-05-03T22:00Z', true],
  ['weekly', 'sun', '2026-04-27T20:00Z', '2026-05-02T20:00Z', false],
  ['weekly', 'sun', '2026-05-02T20:00Z', '2026-05-03T20:00Z', true],
  // made up for on Monday when Sunday was missed, then not again
  ['weekly', 'sun', '2026-04-26T20:00Z', '2026-05-04T20:00Z', true],
  ['weekly', 'sun', '2026-05-04T20:00Z', '2026-05-05T20:00Z', false],
  // Sunday begins in Berlin at 22:00 UTC of Saturday
  ['weekly', 'sun', '2026-05-02T21:30Z', '2026-05-02T22:30Z', true],
  ['weekly', 'mon', '2026-05-02T20:00Z', '2026-05-03T20:00Z', false],
  ['monthly', 'mon', '2026-05-01T20:00Z', '2026-05-31T20:00Z', false],
  ['monthly', 'mon', '2026-05-31T20:00Z', '2026-06-01T20:00Z', true],
  ['daily', 'mon', '2026-05-31T20:00Z', '2026-06-01T20:00Z', true],
  // a clock that was set back
  ['weekly', 'sun', '2026-05-10T20:00Z', '2026-05-03T20:00Z', false],
])('%s on %s after %s at %s: %s', (full, full_on, newest, due, wanted) => {
  const rule: FullRule = { full, full_on, time_zone: 'Europe/Berlin' };
  expect(needsFull(rule, at(due), newest === null ? null : at(newest))).toBe(wanted);
});
