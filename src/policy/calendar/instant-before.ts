import type { Duration } from './duration.ts';
import type { TimeZone } from './time-zone.ts';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/** Length of the units that no calendar changes: a day is 24 hours here, also when clocks change. */
const exactMs = { m: 60_000, h: HOUR_MS, d: DAY_MS, w: 7 * DAY_MS } as const;

/**
 * The instant that lies one duration before another, both in ms since the epoch.
 * Months and years keep the local day and time of day; 31 March less one month is the last day of February.
 */
export function instantBefore(instantMs: number, duration: Duration, zone: TimeZone): number {
  const { amount, unit } = duration;
  if (unit !== 'mo' && unit !== 'y') return instantMs - amount * exactMs[unit];
  const localMs = instantMs + zone.offsetMsAt(instantMs);
  return earliestInstantOf(minusMonths(localMs, unit === 'mo' ? amount : amount * 12), zone);
}

function minusMonths(localMs: number, months: number): number {
  const date = new Date(localMs);
  const year = date.getUTCFullYear();
  const month = date.getUTCMonth() - months;
  // day 0 of a month is the last one of the month before
  const lastDay = new Date(Date.UTC(year, month + 1, 0)).getUTCDate();
  const timeOfDayMs = localMs - Math.floor(localMs / DAY_MS) * DAY_MS;
  return Date.UTC(year, month, Math.min(date.getUTCDate(), lastDay)) + timeOfDayMs;
}

/** A local time that comes twice, or not at all, means the earlier instant: more is kept that way. */
function earliestInstantOf(localMs: number, zone: TimeZone): number {
  // no offset reaches a day, so the offsets of the days around it are all that can apply
  const candidates = [localMs - DAY_MS, localMs + DAY_MS].map((near) => localMs - zone.offsetMsAt(near));
  const exact = candidates.filter((candidate) => candidate + zone.offsetMsAt(candidate) === localMs);
  return Math.min(...(exact.length > 0 ? exact : candidates));
}
