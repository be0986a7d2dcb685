import { expect, it } from 'vitest';
import { parseDuration } from './duration.ts';
import { instantBefore } from './instant-before.ts';
import { openTimeZone } from './time-zone.ts';

it.each([
  // exact units, also over a change of clocks
  ['UTC', '2026-11-03T12:00Z', '90m', '2026-11-03T10:30Z'],
  ['UTC', '2026-11-03T12:00Z', '36h', '2026-11-02T00:00Z'],
  ['Europe/Berlin', '2026-10-26T12:00Z', '2d', '2026-10-24T12:00Z'],
  ['UTC', '2026-11-03T12:00Z', '8w', '2026-09-08T12:00Z'],
  // the month's end
  ['UTC', '2026-03-31T10:00Z', '1mo', '2026-02-28T10:00Z'],
  ['UTC', '2024-03-31T10:00Z', '1mo', '2024-02-29T10:00Z'],
  ['UTC', '2026-01-31T10:00Z', '13mo', '2024-12-31T10:00Z'],
  ['UTC', '2026-12-31T10:00Z', '6mo', '2026-06-30T10:00Z'],
  ['UTC', '2024-02-29T10:00Z', '1y', '2023-02-28T10:00Z'],
  ['UTC', '2024-02-29T10:00Z', '4y', '2020-02-29T10:00Z'],
  // the last day of the month is a local one: 1 March 00:30 in Berlin
  ['Europe/Berlin', '2026-02-28T23:30Z', '1mo', '2026-01-31T23:30Z'],
  // ten in the morning stays ten in the morning
  ['Europe/Berlin', '2026-04-15T08:00Z', '2mo', '2026-02-15T09:00Z'],
  ['Asia/Kathmandu', '2026-04-15T08:00Z', '2y', '2024-04-15T08:00Z'],
  // noon of the very day the clocks went back
  ['Europe/Berlin', '2026-11-25T11:00Z', '1mo', '2026-10-25T11:00Z'],
  // 02:30 came not at all on 29 March and twice on 25 October: the earlier instant
  ['Europe/Berlin', '2026-04-29T00:30Z', '1mo', '2026-03-29T00:30Z'],
  ['Europe/Berlin', '2026-11-25T01:30Z', '1mo', '2026-10-25T00:30Z'],
  ['Australia/Lord_Howe', '2026-05-04T15:15Z', '1mo', '2026-04-04T14:45Z'],
])('in %s, %s less %s is %s', (zone, from, duration, expected) => {
  const found = instantBefore(Date.parse(from), parseDuration(duration), openTimeZone(zone));
  expect(new Date(found).toISOString()).toBe(new Date(expected).toISOString());
});
