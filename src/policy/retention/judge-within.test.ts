import { describe, expect, it } from 'vitest';
import { keptIds, plan, point, reasons, samplePoints } from '../../../test/support/retention-points.ts';

describe('rules of a time', () => {
  it('keeps what lies within it, the first instant included', () => {
    expect(reasons(samplePoints, { keep_within: '36h', daily: '3d', monthly: '1y' })).toEqual([
      [
        '2026-11-03T11:00',
        'keep',
        'within 36h (keep_within), newest of day 2026-11-03 (daily within 3d), newest of month 2026-11 (monthly within 1y)',
      ],
      ['2026-11-03T02:00', 'keep', 'within 36h (keep_within)'],
      ['2026-11-02T23:00', 'keep', 'within 36h (keep_within), newest of day 2026-11-02 (daily within 3d)'],
      ['2026-11-02T01:00', 'keep', 'within 36h (keep_within)'],
      ['2026-11-01T12:00', 'keep', 'newest of day 2026-11-01 (daily within 3d)'],
      [
        '2026-10-31T12:00',
        'keep',
        'newest of day 2026-10-31 (daily within 3d), newest of month 2026-10 (monthly within 1y)',
      ],
      [
        '2026-10-20T12:00',
        'delete',
        'no rule keeps it: older than 36h, day 2026-10-20 has no point within 3d (daily), ' +
          'a newer point stands for month 2026-10',
      ],
      ['2025-12-31T12:00', 'keep', 'newest of month 2025-12 (monthly within 1y)'],
    ]);
    expect(plan(samplePoints, { daily: '3d' }).decisions[5]?.rules).toEqual([
      { rule: 'daily', bucket: '2026-10-31', within: '3d' },
    ]);
  });

  it('clamps a month to its end', () => {
    const points = ['2026-03-31T10:00', '2026-02-28T10:00', '2026-02-28T09:59'].map((time) => point(time));
    expect(keptIds(points, { keep_within: '1mo' }, Date.parse('2026-03-31T10:00Z'))).toEqual([
      '2026-03-31T10:00',
      '2026-02-28T10:00',
    ]);
  });
});
