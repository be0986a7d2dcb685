import { expect, it } from 'vitest';
import { describeRules } from './describe-rules.ts';
import { retentionRules } from './retention-rules.ts';

it.each([
  [{}, 'keeps everything: there are no retention rules'],
  [{ time_zone: 'Europe/Berlin' }, 'keeps everything: there are no retention rules'],
  [{ keep_last: 1 }, 'keeps the last point (UTC)'],
  [{ max_snapshots: 12 }, 'keeps the last 12 points (UTC)'],
  [{ keep_within: '1d' }, 'keeps every point of the last day (UTC)'],
  [
    { keep_last: 3, keep_within: '90m', hourly: '36h', daily: 7, weekly: 1, monthly: '1y', yearly: 10 },
    'keeps the last 3 points, every point of the last 90 minutes, one per hour of the last 36 hours, ' +
      'one per day for 7 days with a point, one per week for one week with a point, one per month of the last year, ' +
      'one per year for 10 years with a point (UTC)',
  ],
])('takes %j and says what it means', (rules, words) => {
  const parsed = retentionRules.parse(rules);
  expect(parsed).toEqual({ time_zone: 'UTC', ...rules });
  expect(describeRules(parsed)).toBe(words);
});

it.each([
  [{ keep_lats: 3 }, 'Unrecognized key: "keep_lats"'],
  [{ keep_last: 0 }, 'expected number to be >=1'],
  [{ keep_last: 10_001 }, 'expected number to be <=10000'],
  [{ keep_last: 2.5 }, 'expected int'],
  [{ keep_last: '3' }, 'expected number, received string'],
  [{ keep_last: 3, max_snapshots: 3 }, 'keep_last and max_snapshots are the same rule; write one of them'],
  [{ keep_within: 14 }, 'expected string, received number'],
  [{ keep_within: '6m' }, '"6m" is 6 minutes, the least is 60m; for months write 6mo'],
  [{ daily: 0 }, 'expected number to be >=1'],
  [{ daily: 1.5 }, 'write a whole count such as 7'],
  [{ daily: '7' }, '"7" has no unit'],
  [{ daily: '14D' }, 'write 14d'],
  [{ daily: true }, 'write a whole count such as 7 or a duration such as "14d"'],
  [{ time_zone: 'Europe/Berlyn' }, 'not a time zone of the IANA database'],
])('refuses %j and says why', (rules, message) => {
  const parsed = retentionRules.safeParse(rules);
  expect(parsed.error?.issues.map((issue) => issue.message).join('\n')).toContain(message);
});
