import { createHash } from 'node:crypto';
import type { Occurrences } from './occurrences.ts';
import { type AllowedHours, opensAt } from './window.ts';

/** When a kind of work of one policy is due, and how far from then it may begin. */
export interface Timing {
  readonly occurrences: Occurrences;
  /** Runs begin up to so much later, each by its own share. */
  readonly jitterMs: number;
  /** What the share is made from, besides the instant. */
  readonly seed: string;
  readonly window: AllowedHours | null;
  readonly timeZone: string;
}

/** What is known when it is asked what is due. All in ms since the epoch. */
export interface Ledger {
  readonly nowMs: number;
  /** Nothing at this instant or before it is due: the schedule did not hold then. */
  readonly sinceMs: number;
  /** The newest due instant up to now that was claimed already; null: none. */
  readonly claimedMs: number | null;
}

export interface DueRun {
  readonly dueMs: number;
  /** Earlier ones that nobody ran: they are caught up by this one. At most 100 are counted. */
  readonly missed: number;
}

const MOST_MISSED = 100;
/** A week of every five minutes: nothing waits longer for its hours. */
const MOST_LOOKS = 2_100;

/** The instant at which the run of this due instant may begin: the same whoever asks, and after any restart. */
export function startOf(timing: Timing, dueMs: number): number {
  return opensAt(timing.window, dueMs + jitterOf(timing, dueMs), timing.timeZone);
}

function jitterOf({ jitterMs, seed }: Timing, dueMs: number): number {
  if (jitterMs <= 0) return 0;
  const digest = createHash('sha256').update(`${seed} ${dueMs}`).digest();
  return Math.floor((digest.readUInt32BE(0) / 2 ** 32) * jitterMs);
}

/**
 * The one run that should begin now, if any: the newest due instant whose beginning has come and that nobody claimed.
 * Whatever was missed before it is made up for by it, once. Pure; a clock that was set back makes nothing due again,
 * because what was claimed stays claimed.
 */
export function dueRun(timing: Timing, ledger: Ledger): DueRun | null {
  const { nowMs, sinceMs, claimedMs } = ledger;
  const floorMs = Math.max(sinceMs, claimedMs ?? Number.NEGATIVE_INFINITY);
  const { occurrences } = timing;
  let dueMs = occurrences.newest(nowMs);
  for (let looks = 0; dueMs !== null && dueMs > floorMs && startOf(timing, dueMs) > nowMs; looks += 1) {
    if (looks === MOST_LOOKS) return null;
    dueMs = occurrences.newest(dueMs - 1);
  }
  if (dueMs === null || dueMs <= floorMs) return null;
  let missed = 0;
  let earlier = occurrences.newest(dueMs - 1);
  while (earlier !== null && earlier > floorMs && missed < MOST_MISSED) {
    missed += 1;
    earlier = occurrences.newest(earlier - 1);
  }
  return { dueMs, missed };
}

/** When to look again at the latest: the beginning of the next run, or of one that waits for its jitter or its hours. */
export function nextLook(timing: Timing, nowMs: number): number | null {
  const next = timing.occurrences.next(nowMs);
  const waiting = timing.occurrences.newest(nowMs);
  const starts = [next, waiting].flatMap((dueMs) => (dueMs === null ? [] : [startOf(timing, dueMs)]));
  const coming = starts.filter((startMs) => startMs > nowMs);
  return coming.length === 0 ? null : Math.min(...coming);
}
