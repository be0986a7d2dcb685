import type { UnverifiedDisk } from '../../catalog/points/verdicts.ts';

const DAY_MS = 24 * 3600 * 1000;

export interface ScrubRules {
  /** Share of the stored bytes, 0…100; 0: none. */
  readonly percentPerDay: number;
  readonly intervalMs: number;
}

export interface ScrubState {
  /** Bytes of all layers. */
  readonly totalBytes: number;
  /** Bytes of layers that were verified in the last 24 hours, by anybody. */
  readonly recentBytes: number;
  /** Longest unverified first, never verified before all. */
  readonly candidates: readonly UnverifiedDisk[];
}

export const dayBefore = (nowMs: number): string => new Date(nowMs - DAY_MS).toISOString();

/**
 * What the next slice verifies: the longest unverified layers, up to an hour's part of the day's share. The dates of
 * the verdicts are the only memory, so it goes on after a restart as if there had been none. A layer larger than the
 * share is taken as a whole, and then nothing until a day has passed. What was verified within the present round
 * (100 % divided by the daily share) is left alone. Pure.
 */
export function pickScrub(state: ScrubState, rules: ScrubRules, nowMs: number): UnverifiedDisk[] {
  if (rules.percentPerDay <= 0) return [];
  const perDay = (state.totalBytes * rules.percentPerDay) / 100;
  const perSlice = perDay * Math.min(1, rules.intervalMs / DAY_MS);
  const roundMs = (100 / rules.percentPerDay) * DAY_MS;
  const picked: UnverifiedDisk[] = [];
  let bytes = 0;
  for (const candidate of state.candidates) {
    if (bytes >= perSlice || state.recentBytes + bytes >= perDay) break;
    const isDue = candidate.verifiedAt === null || nowMs - Date.parse(candidate.verifiedAt) >= roundMs;
    // they are in order: the others were verified even later
    if (!isDue) break;
    picked.push(candidate);
    bytes += candidate.fileBytes;
  }
  return picked;
}
