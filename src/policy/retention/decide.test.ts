import { describe, expect, it } from 'vitest';
import { keptIds, NOON, plan, point, reasons } from '../../../test/support/retention-points.ts';

describe('points in the future', () => {
  it('are kept, and use up nothing', () => {
    const points = ['2027-01-01T00:00', '2026-11-03T12:01', '2026-11-03T12:00', '2026-11-03T11:00'];
    const rules = { keep_last: 1, daily: 1, yearly: 1 };
    const { decisions } = plan(
      points.map((time) => point(time)),
      rules,
    );
    expect(decisions.map(({ action }) => action)).toEqual(['keep', 'keep', 'keep', 'delete']);
    expect(decisions[0]).toEqual({
      id: '2027-01-01T00:00',
      action: 'keep',
      rules: [{ rule: 'future' }],
      reason: 'completed at 2027-01-01T00:00:00Z, in the future: kept and not counted',
    });
    expect(decisions[2]?.rules).toHaveLength(3);
  });
});

describe('pins', () => {
  const old = '2026-01-01T00:00';
  const pinned = (untilMs: number | null) => [
    point('2026-11-03T11:00'),
    point(old, { pins: [{ reason: 'before the upgrade', untilMs }] }),
  ];

  it('keep until their end', () => {
    expect(plan(pinned(NOON + 1), { keep_last: 1 }).decisions[1]).toEqual({
      id: old,
      action: 'keep',
      rules: [{ rule: 'pin', reason: 'before the upgrade', untilMs: NOON + 1 }],
      reason: 'pinned until 2026-11-03T12:00:00Z ("before the upgrade")',
    });
    expect(plan(pinned(null), { keep_last: 1 }).decisions[1]?.reason).toBe(
      'pinned for ever ("before the upgrade")',
    );
  });

  it('have no effect after it', () => {
    expect(plan(pinned(NOON), { keep_last: 1 }).decisions[1]).toEqual({
      id: old,
      action: 'delete',
      rules: [],
      reason: 'no rule keeps it: 2nd newest; its pin ("before the upgrade") ended at 2026-11-03T12:00:00Z',
    });
  });

  it('leave the counting as it was, and keep damaged points too', () => {
    const points = [
      point('2026-11-03T11:00', { pins: [{ reason: 'audit', untilMs: null }] }),
      point('2026-11-03T10:00'),
      point('2026-11-03T09:00', { isGood: false, pins: [{ reason: 'evidence', untilMs: null }] }),
    ];
    expect(reasons(points, { keep_last: 1 })).toEqual([
      ['2026-11-03T11:00', 'keep', 'pinned for ever ("audit"); newest (keep_last 1 of 1)'],
      ['2026-11-03T10:00', 'delete', 'no rule keeps it: 2nd newest'],
      ['2026-11-03T09:00', 'keep', 'damaged, so it did not count; pinned for ever ("evidence")'],
    ]);
  });
});

describe('damaged points', () => {
  const damaged = (time: string) => point(time, { isGood: false });

  it('count for nothing and stay only where they would count were they good', () => {
    const points = [
      damaged('2026-11-03T11:00'),
      point('2026-11-03T02:00'),
      damaged('2026-11-03T01:00'),
      damaged('2026-11-02T12:00'),
      point('2026-11-01T12:00'),
      point('2026-10-31T12:00'),
      damaged('2026-10-30T12:00'),
    ];
    expect(reasons(points, { daily: 2 })).toEqual([
      [
        '2026-11-03T11:00',
        'keep',
        'damaged, so it did not count; were it good: newest of day 2026-11-03 (daily 1 of 2)',
      ],
      ['2026-11-03T02:00', 'keep', 'newest of day 2026-11-03 (daily 1 of 2)'],
      [
        '2026-11-03T01:00',
        'delete',
        'damaged, so it did not count; no rule would keep it were it good: a newer point stands for day 2026-11-03',
      ],
      [
        '2026-11-02T12:00',
        'keep',
        'damaged, so it did not count; were it good: newest of day 2026-11-02 (daily 2 of 2)',
      ],
      ['2026-11-01T12:00', 'keep', 'newest of day 2026-11-01 (daily 2 of 2)'],
      [
        '2026-10-31T12:00',
        'delete',
        'no rule keeps it: day 2026-10-31 is the 3rd with a point (daily keeps 2)',
      ],
      [
        '2026-10-30T12:00',
        'delete',
        'damaged, so it did not count; no rule would keep it were it good: ' +
          'day 2026-10-30 is the 4th with a point (daily keeps 2)',
      ],
    ]);
  });

  it('do not push a good one out of keep_last', () => {
    const points = [damaged('2026-11-03T11:00'), damaged('2026-11-03T10:00'), point('2026-11-03T09:00')];
    expect(keptIds([...points, damaged('2026-11-03T08:00')], { keep_last: 1 })).toEqual(
      points.map(({ id }) => id),
    );
  });
});
