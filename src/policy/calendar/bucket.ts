import type { TimeZone } from './time-zone.ts';

/** Local calendar units that restore points are sorted into. Weeks are those of ISO 8601 and begin on Monday. */
export type BucketUnit = 'hour' | 'day' | 'week' | 'month' | 'year';

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;
/** Offsets lie within ±1024 minutes; that much room stands between the keys of two hours. */
const OFFSET_ROOM = 2048;

/**
 * A number that all instants of one bucket share, and no other bucket of that unit.
 * The offset is part of an hour: the hour that comes twice when clocks go back is two hours.
 */
export function bucketKeyOf(unit: BucketUnit, instantMs: number, zone: TimeZone): number {
  const offsetMs = zone.offsetMsAt(instantMs);
  const localMs = instantMs + offsetMs;
  const day = Math.floor(localMs / DAY_MS);
  switch (unit) {
    case 'hour':
      return Math.floor(localMs / HOUR_MS) * OFFSET_ROOM + OFFSET_ROOM / 2 + Math.round(offsetMs / MINUTE_MS);
    case 'day':
      return day;
    case 'week':
      // day 0, 1 January 1970, was a Thursday
      return Math.floor((day + 3) / 7);
    case 'month': {
      const date = new Date(localMs);
      return date.getUTCFullYear() * 12 + date.getUTCMonth();
    }
    case 'year':
      return new Date(localMs).getUTCFullYear();
  }
}

/** `2026-10-25T02+01:00`, `2026-10-25`, `2026-W43`, `2026-10` or `2026`. */
export function bucketLabel(unit: BucketUnit, key: number): string {
  switch (unit) {
    case 'hour': {
      const hour = Math.floor(key / OFFSET_ROOM);
      const offsetMinutes = key - hour * OFFSET_ROOM - OFFSET_ROOM / 2;
      return `${isoUntil(hour * HOUR_MS, 'YYYY-MM-DDTHH')}${offsetLabel(offsetMinutes)}`;
    }
    case 'day':
      return isoUntil(key * DAY_MS, 'YYYY-MM-DD');
    case 'week':
      return weekLabel(key);
    case 'month':
      return isoUntil(Date.UTC(Math.floor(key / 12), key % 12), 'YYYY-MM');
    case 'year':
      return String(key);
  }
}

const isoUntil = (localMs: number, form: string) => new Date(localMs).toISOString().slice(0, form.length);

/** ISO 8601: a week belongs to the year of its Thursday, and week 1 has the first Thursday. */
function weekLabel(key: number): string {
  const thursdayMs = key * 7 * DAY_MS;
  const year = new Date(thursdayMs).getUTCFullYear();
  const week = Math.floor((thursdayMs - Date.UTC(year, 0, 1)) / (7 * DAY_MS)) + 1;
  return `${year}-W${String(week).padStart(2, '0')}`;
}

function offsetLabel(minutes: number): string {
  const two = (value: number) => String(value).padStart(2, '0');
  const size = Math.abs(minutes);
  return `${minutes < 0 ? '-' : '+'}${two(Math.floor(size / 60))}:${two(size % 60)}`;
}
