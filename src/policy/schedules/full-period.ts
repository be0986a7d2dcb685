import { bucketKeyOf } from '../calendar/bucket.ts';
import { openTimeZone } from '../calendar/time-zone.ts';
import { weekdayNames } from './cron-fields.ts';

/** How often a run makes a full. */
export interface FullRule {
  readonly full: 'never' | 'daily' | 'weekly' | 'monthly';
  /** The day on which weeks begin. */
  readonly full_on: (typeof weekdayNames)[number];
  readonly time_zone: string;
}

/**
 * True when the period of this instant has no full yet. A full that was missed is made by the next run, and one that
 * somebody made by hand counts.
 * @param newestFullMs when the newest backup began that was asked for as a full; null: there is none
 */
export function needsFull(rule: FullRule, dueMs: number, newestFullMs: number | null): boolean {
  if (rule.full === 'never') return false;
  if (newestFullMs === null) return true;
  // with the clock set back, what is there already lies ahead
  return periodOf(rule, newestFullMs) < periodOf(rule, dueMs);
}

function periodOf({ full, full_on, time_zone }: FullRule, instantMs: number): number {
  const zone = openTimeZone(time_zone);
  if (full === 'monthly') return bucketKeyOf('month', instantMs, zone);
  const day = bucketKeyOf('day', instantMs, zone);
  if (full === 'daily') return day;
  // day 0, 1 January 1970, was a Thursday: the fourth of a list that begins with Sunday
  return Math.floor((day + 4 - weekdayNames.indexOf(full_on)) / 7);
}
