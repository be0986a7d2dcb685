import { openTimeZone } from '../calendar/time-zone.ts';
import { parseCron } from './cron-fields.ts';
import { occurrencesOf } from './occurrences.ts';

/** Hours of each day in which work may begin, local time; it may go over midnight. */
export interface AllowedHours {
  /** As in `22:00`. */
  readonly from: string;
  readonly to: string;
}

export const clockTimePattern = /^([01]\d|2[0-3]):[0-5]\d$/;

const DAY_MINUTES = 24 * 60;
const minutesOf = (time: string): number => Number(time.slice(0, 2)) * 60 + Number(time.slice(3, 5));

/** No hours at all mean the whole day. */
export function isOpen(hours: AllowedHours | null, instantMs: number, timeZone: string): boolean {
  if (hours === null) return true;
  const localMs = instantMs + openTimeZone(timeZone).offsetMsAt(instantMs);
  const minute = (((localMs / 60_000) % DAY_MINUTES) + DAY_MINUTES) % DAY_MINUTES;
  const [from, to] = [minutesOf(hours.from), minutesOf(hours.to)];
  return from < to ? minute >= from && minute < to : minute >= from || minute < to;
}

/** The instant itself when work may begin then, else the next opening. */
export function opensAt(hours: AllowedHours | null, instantMs: number, timeZone: string): number {
  if (hours === null || isOpen(hours, instantMs, timeZone)) return instantMs;
  const [hour, minute] = [Number(hours.from.slice(0, 2)), Number(hours.from.slice(3, 5))];
  const openings = occurrencesOf({ fields: parseCron(`${minute} ${hour} * * *`), isExact: false }, timeZone);
  return openings.next(instantMs) ?? instantMs;
}
