import { describe, expect, it, test } from 'vitest';
import { occurrencesOf } from './occurrences.ts';
import { dueRun, nextLook, startOf, type Timing } from './plan-due.ts';
import { parseSchedule } from './schedule.ts';
import { type AllowedHours, isOpen, opensAt } from './window.ts';

const at = (text: string): number => Date.parse(text);
const iso = (ms: number | null | undefined): string | null =>
  ms === null || ms === undefined ? null : new Date(ms).toISOString().slice(0, 19);

function timingOf(text: string, more: Partial<Timing> & { timeZone?: string } = {}): Timing {
  const timeZone = more.timeZone ?? 'UTC';
  const occurrences = occurrencesOf(parseSchedule(text), timeZone);
  return { occurrences, jitterMs: 0, seed: 'nightly backup', window: null, timeZone, ...more };
}

describe('dueRun', () => {
  const daily = timingOf('daily at 22:00');
  const sinceMs = at('2026-05-01T10:00Z');

  it('says nothing before the first due instant, and nothing for the time before the policy', () => {
    expect(dueRun(daily, { nowMs: at('2026-05-01T21:59:59Z'), sinceMs, claimedMs: null })).toBeNull();
  });

  it('is due at the very instant', () => {
    const due = dueRun(daily, { nowMs: at('2026-05-01T22:00Z'), sinceMs, claimedMs: null });
    expect([iso(due?.dueMs), due?.missed]).toEqual(['2026-05-01T22:00:00', 0]);
  });

  it('catches up what was missed by one run, and says how many', () => {
    const claimedMs = at('2026-05-01T22:00Z');
    const due = dueRun(daily, { nowMs: at('2026-05-05T09:00Z'), sinceMs, claimedMs });
    expect([iso(due?.dueMs), due?.missed]).toEqual(['2026-05-04T22:00:00', 2]);
  });

  it('makes nothing due again when the clock is set back', () => {
    const claimedMs = at('2026-05-02T22:00Z');
    expect(dueRun(daily, { nowMs: at('2026-05-02T22:00:01Z'), sinceMs, claimedMs })).toBeNull();
    // the ledger tells of claims up to now only: one that lies ahead does not stop what comes before it
    expect(iso(dueRun(daily, { nowMs: at('2026-05-01T22:00:01Z'), sinceMs, claimedMs: null })?.dueMs)).toBe(
      '2026-05-01T22:00:00',
    );
  });
});

describe('jitter', () => {
  const timing = timingOf('every 1h', { jitterMs: 600_000 });
  it('is the same however often it is asked, lies within its limit, and differs', () => {
    const shares = Array.from({ length: 200 }, (_, hour) => {
      const dueMs = at('2026-05-01T00:00Z') + hour * 3_600_000;
      const share = startOf(timing, dueMs) - dueMs;
      expect(share).toBe(startOf(timingOf('every 1h', { jitterMs: 600_000 }), dueMs) - dueMs);
      return share;
    });
    expect(Math.min(...shares)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...shares)).toBeLessThan(600_000);
    expect(new Set(shares).size).toBeGreaterThan(190);
  });

  it('holds a run back until its share is over', () => {
    const dueMs = at('2026-05-01T05:00Z');
    const startMs = startOf(timing, dueMs);
    const ledger = { sinceMs: dueMs - 1, claimedMs: null };
    expect(dueRun(timing, { ...ledger, nowMs: startMs - 1 })).toBeNull();
    expect(dueRun(timing, { ...ledger, nowMs: startMs })).toEqual({ dueMs, missed: 0 });
    expect(nextLook(timing, dueMs)).toBe(startMs);
  });
});

describe('allowed hours', () => {
  const night: AllowedHours = { from: '22:00', to: '06:00' };
  test.each([
    ['2026-05-01T19:59Z', false],
    ['2026-05-01T20:00Z', true],
    ['2026-05-02T03:59Z', true],
    ['2026-05-02T04:00Z', false],
  ])('at %s in Berlin: %s', (text, open) => {
    expect(isOpen(night, at(text), 'Europe/Berlin')).toBe(open);
  });

  it('waits for the next opening, also when the clock leaps over it', () => {
    expect(iso(opensAt(night, at('2026-05-01T12:00Z'), 'Europe/Berlin'))).toBe('2026-05-01T20:00:00');
    const leapt: AllowedHours = { from: '02:30', to: '05:00' };
    expect(iso(opensAt(leapt, at('2026-03-29T00:10Z'), 'Europe/Berlin'))).toBe('2026-03-29T01:00:00');
  });

  it('runs at the opening what was due in closed hours, once', () => {
    const timing = timingOf('every 1h', { window: night, timeZone: 'Europe/Berlin' });
    const sinceMs = at('2026-05-01T05:30Z');
    const claimedMs = null;
    expect(dueRun(timing, { nowMs: at('2026-05-01T19:59Z'), sinceMs, claimedMs })).toBeNull();
    const due = dueRun(timing, { nowMs: at('2026-05-01T20:00Z'), sinceMs, claimedMs });
    expect([iso(due?.dueMs), due?.missed]).toEqual(['2026-05-01T20:00:00', 14]);
    expect(iso(nextLook(timing, at('2026-05-01T12:00Z')))).toBe('2026-05-01T20:00:00');
  });
});
