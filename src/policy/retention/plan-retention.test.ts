import { describe, expect, it } from 'vitest';
import { keptIds, NOON, plan, point, reasons, samplePoints } from '../../../test/support/retention-points.ts';

describe('rules that count', () => {
  const rules = { keep_last: 2, daily: 3, weekly: 2, monthly: 2, yearly: 2 };

  it('keeps what any rule keeps and says which', () => {
    expect(reasons(samplePoints.toReversed(), rules)).toEqual([
      [
        '2026-11-03T11:00',
        'keep',
        'newest (keep_last 1 of 2), newest of day 2026-11-03 (daily 1 of 3), ' +
          'newest of week 2026-W45 (weekly 1 of 2), newest of month 2026-11 (monthly 1 of 2), ' +
          'newest of year 2026 (yearly 1 of 2)',
      ],
      ['2026-11-03T02:00', 'keep', '2nd newest (keep_last 2 of 2)'],
      ['2026-11-02T23:00', 'keep', 'newest of day 2026-11-02 (daily 2 of 3)'],
      [
        '2026-11-02T01:00',
        'delete',
        'no rule keeps it: 4th newest, a newer point stands for day 2026-11-02, ' +
          'a newer point stands for week 2026-W45, a newer point stands for month 2026-11, ' +
          'a newer point stands for year 2026',
      ],
      [
        '2026-11-01T12:00',
        'keep',
        'newest of day 2026-11-01 (daily 3 of 3), newest of week 2026-W44 (weekly 2 of 2)',
      ],
      ['2026-10-31T12:00', 'keep', 'newest of month 2026-10 (monthly 2 of 2)'],
      [
        '2026-10-20T12:00',
        'delete',
        'no rule keeps it: 7th newest, day 2026-10-20 is the 5th with a point (daily keeps 3), ' +
          'week 2026-W43 is the 3rd with a point (weekly keeps 2), a newer point stands for month 2026-10, ' +
          'a newer point stands for year 2026',
      ],
      ['2025-12-31T12:00', 'keep', 'newest of year 2025 (yearly 2 of 2)'],
    ]);
  });

  it('tells programs the same', () => {
    const { decisions, deletesLastGood } = plan(samplePoints, rules);
    expect(decisions[2]?.rules).toEqual([{ rule: 'daily', bucket: '2026-11-02', rank: 2, of: 3 }]);
    expect(decisions[1]?.rules).toEqual([{ rule: 'keep_last', rank: 2, of: 2 }]);
    expect(decisions[3]?.rules).toEqual([]);
    expect(deletesLastGood).toBe(false);
  });

  it('takes max_snapshots for keep_last', () => {
    expect(plan(samplePoints, { max_snapshots: 3 })).toEqual(plan(samplePoints, { keep_last: 3 }));
    expect(keptIds(samplePoints, { max_snapshots: 3 })).toEqual(samplePoints.slice(0, 3).map(({ id }) => id));
  });
});

describe('no rules', () => {
  it('keeps everything', () => {
    const { decisions, deletesLastGood } = plan(samplePoints, { time_zone: 'Europe/Berlin' });
    expect(deletesLastGood).toBe(false);
    for (const decision of decisions) {
      expect(decision).toMatchObject({ action: 'keep', rules: [{ rule: 'no_rules' }] });
      expect(decision.reason).toBe('there are no retention rules, so everything is kept');
    }
  });

  it('plans no points as well', () => {
    expect(plan([], { keep_last: 1 })).toEqual({ decisions: [], deletesLastGood: false });
  });
});

describe('order', () => {
  it('is that of completion, and of ids where that is equal', () => {
    const points = ['b', 'c', 'a'].map((id) => point('2026-11-03T02:00', { id }));
    const later = point('2026-11-03T03:00', { id: '0' });
    expect(plan([...points, later], { keep_last: 2 }).decisions.map(({ id }) => id)).toEqual([
      '0',
      'c',
      'b',
      'a',
    ]);
    expect(keptIds(points, { daily: 1 })).toEqual(['c']);
    expect(keptIds(points.toReversed(), { daily: 1 })).toEqual(['c']);
  });

  it('refuses points that cannot be put in order', () => {
    expect(() => plan([point('2026-11-03', { completedAtMs: Number.NaN })], {})).toThrow(
      'the point 2026-11-03 has no valid time of completion: NaN',
    );
    expect(() => plan([point('2026-11-03'), point('2026-11-03')], {})).toThrow(
      'the point 2026-11-03 is there twice',
    );
    const pins = [{ reason: 'audit', untilMs: Number.NaN }];
    expect(() => plan([point('2026-11-03', { pins })], {})).toThrow(
      'the pin ("audit") of the point 2026-11-03',
    );
  });
});

describe('deletesLastGood', () => {
  const old = point('2026-01-01T00:00');
  const rules = { keep_within: '1d' };

  it('is said when no good point would be left', () => {
    expect(plan([old], rules).deletesLastGood).toBe(true);
    expect(plan([old, point('2026-11-03T11:00', { isGood: false })], rules).deletesLastGood).toBe(true);
  });

  it('is not said while one is left, or there was none', () => {
    expect(plan([old, point('2026-11-03T11:00')], rules).deletesLastGood).toBe(false);
    expect(plan([old, point('2027-11-03T11:00')], rules).deletesLastGood).toBe(false);
    const pins = [{ reason: 'audit', untilMs: NOON + 1 }];
    expect(plan([{ ...old, pins }], rules).deletesLastGood).toBe(false);
    expect(plan([{ ...old, isGood: false }], rules).deletesLastGood).toBe(false);
  });
});
