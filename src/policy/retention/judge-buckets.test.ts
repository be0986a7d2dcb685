import { describe, expect, it } from 'vitest';
import { keptIds, plan, point, reasons } from '../../../test/support/retention-points.ts';

describe('local calendars', () => {
  it('keeps both hours of the hour that comes twice in Berlin', () => {
    const points = ['2026-10-25T01:30', '2026-10-25T01:10', '2026-10-25T00:30'].map((time) => point(time));
    const { decisions } = plan(points, { hourly: 2, time_zone: 'Europe/Berlin' });
    expect(decisions.flatMap(({ rules }) => rules)).toEqual([
      { rule: 'hourly', bucket: '2026-10-25T02+01:00', rank: 1, of: 2 },
      { rule: 'hourly', bucket: '2026-10-25T02+02:00', rank: 2, of: 2 },
    ]);
  });

  it('ends a day of 25 hours and one of 23 hours at local midnight', () => {
    const autumn = ['2026-10-25T23:00', '2026-10-25T22:59', '2026-10-24T22:00', '2026-10-24T21:59'];
    const spring = ['2026-03-29T22:00', '2026-03-29T21:59', '2026-03-28T23:00', '2026-03-28T22:59'];
    for (const times of [autumn, spring]) {
      const points = times.map((time) => point(time));
      expect(keptIds(points, { daily: 3, time_zone: 'Europe/Berlin' })).toEqual([
        times[0],
        times[1],
        times[3],
      ]);
    }
  });

  it('counts a day once that comes back when clocks go back over midnight', () => {
    // at 00:01 of 7 November it became 23:01 of the 6th
    const points = ['2010-11-07T12:00', '2010-11-07T02:40', '2010-11-07T02:30'].map((time) => point(time));
    expect(reasons(points, { daily: 2, time_zone: 'America/St_Johns' })).toEqual([
      ['2010-11-07T12:00', 'keep', 'newest of day 2010-11-07 (daily 1 of 2)'],
      ['2010-11-07T02:40', 'keep', 'newest of day 2010-11-06 (daily 2 of 2)'],
      ['2010-11-07T02:30', 'delete', 'no rule keeps it: a newer point stands for day 2010-11-07'],
    ]);
  });
});
