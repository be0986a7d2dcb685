import { Cron } from 'croner';
import { type CronFields, cronText } from './cron-fields.ts';

/** The instants of a schedule, ms since the epoch. A pure function of the instant that is asked about. */
export interface Occurrences {
  /** The first one after this instant; null: there is none any more. */
  next(afterMs: number): number | null;
  /** The newest one at this instant or before it. */
  newest(atMs: number): number | null;
}

/**
 * Wall clock times follow the zone. A time that the clock leaps over comes at the first instant after the gap, and one
 * that comes twice counts once; a schedule of every hour goes on through both hours.
 * @param timeZone a name that `isTimeZone` knows
 */
export function occurrencesOf(
  schedule: { readonly fields: CronFields; readonly isExact: boolean },
  timeZone: string,
): Occurrences {
  const zone = schedule.isExact ? 'UTC' : timeZone;
  const pattern = cronText(schedule.fields);
  const key = `${pattern} ${zone}`;
  const known = opened.get(key);
  if (known) return known;
  const cron = new Cron(pattern, {
    timezone: zone,
    paused: true,
    mode: '5-part',
    // lists of times are fixed times too: they move out of a gap instead of being left out
    fixedTimeRule: 'no-wildcard',
  });
  const made: Occurrences = {
    next: (afterMs) => cron.nextRun(new Date(afterMs))?.getTime() ?? null,
    // it asks for what lies before an instant
    newest: (atMs) => cron.previousRuns(1, new Date(atMs + 1))[0]?.getTime() ?? null,
  };
  if (opened.size >= MOST_OPEN) opened.clear();
  opened.set(key, made);
  return made;
}
const opened = new Map<string, Occurrences>();
const MOST_OPEN = 1_000;
