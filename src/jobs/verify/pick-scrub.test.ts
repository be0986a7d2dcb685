import { describe, expect, test } from 'vitest';
import type { UnverifiedDisk } from '../../catalog/points/verdicts.ts';
import { dayBefore, pickScrub } from './pick-scrub.ts';

const HOUR = 3600 * 1000;
const DAY = 24 * HOUR;
const noon = Date.parse('2026-11-03T12:00:00Z');
const daysAgo = (days: number) => new Date(noon - days * DAY).toISOString();
const disk = (backupId: string, fileBytes: number, verifiedAt: string | null = null): UnverifiedDisk => ({
  backupId,
  diskIndex: 0,
  fileBytes,
  verifiedAt,
});
const ids = (state: Parameters<typeof pickScrub>[0], percentPerDay = 3, intervalMs = HOUR) =>
  pickScrub(state, { percentPerDay, intervalMs }, noon).map(({ backupId }) => backupId);

describe('a slice of the scrub', () => {
  test('takes as many layers as make an hour of the daily share', () => {
    const candidates = ['a', 'b', 'c', 'd'].map((id) => disk(id, 60));
    // 3 % of 96,000 is 2,880 a day, 120 an hour
    expect(ids({ totalBytes: 96_000, recentBytes: 0, candidates })).toEqual(['a', 'b']);
  });

  test('takes at least one, however large, and then rests until its day is over', () => {
    const candidates = [disk('huge', 90_000), disk('small', 1)];
    expect(ids({ totalBytes: 96_000, recentBytes: 0, candidates })).toEqual(['huge']);
    expect(ids({ totalBytes: 96_000, recentBytes: 90_000, candidates: [disk('small', 1)] })).toEqual([]);
  });

  test('takes nothing once the daily share is done', () => {
    expect(ids({ totalBytes: 96_000, recentBytes: 2_880, candidates: [disk('a', 1)] })).toEqual([]);
    expect(ids({ totalBytes: 96_000, recentBytes: 2_879, candidates: [disk('a', 1)] })).toEqual(['a']);
  });

  test('leaves alone what was verified within the round', () => {
    const candidates = [disk('never', 1), disk('old', 1, daysAgo(34)), disk('new', 1, daysAgo(33))];
    expect(ids({ totalBytes: 96_000, recentBytes: 0, candidates })).toEqual(['never', 'old']);
  });

  test('is empty when it is switched off or nothing is stored', () => {
    expect(ids({ totalBytes: 96_000, recentBytes: 0, candidates: [disk('a', 1)] }, 0)).toEqual([]);
    expect(ids({ totalBytes: 0, recentBytes: 0, candidates: [] })).toEqual([]);
  });

  test('is the whole day when the interval is longer', () => {
    const candidates = Array.from({ length: 100 }, (_, index) => disk(String(index), 60));
    expect(ids({ totalBytes: 96_000, recentBytes: 0, candidates }, 3, 2 * DAY)).toHaveLength(48);
  });
});

test('hour by hour every layer has its turn within a round, and no day has more than its share and one layer', () => {
  const layers = Array.from({ length: 500 }, (_, index) => disk(`b${index}`, 1 + ((index * 7919) % 50)));
  const totalBytes = layers.reduce((sum, { fileBytes }) => sum + fileBytes, 0);
  const largest = 50;
  const verifiedAt = new Map<string, number>();
  const rules = { percentPerDay: 3, intervalMs: HOUR };
  for (let now = noon; now < noon + 80 * DAY; now += HOUR) {
    const since = Date.parse(dayBefore(now));
    const recent = layers.filter(({ backupId }) => (verifiedAt.get(backupId) ?? 0) >= since);
    const recentBytes = recent.reduce((sum, { fileBytes }) => sum + fileBytes, 0);
    expect(recentBytes).toBeLessThan(totalBytes * 0.03 + largest);
    const candidates = layers
      .map((layer) => {
        const at = verifiedAt.get(layer.backupId);
        return { ...layer, verifiedAt: at === undefined ? null : new Date(at).toISOString() };
      })
      .toSorted((a, b) => (a.verifiedAt ?? '').localeCompare(b.verifiedAt ?? ''));
    for (const { backupId } of pickScrub({ totalBytes, recentBytes, candidates }, rules, now))
      verifiedAt.set(backupId, now);
    if (now === noon + 40 * DAY) expect(verifiedAt.size).toBe(500);
  }
  const oldest = Math.min(...verifiedAt.values());
  expect(oldest).toBeGreaterThan(noon + 40 * DAY);
});
