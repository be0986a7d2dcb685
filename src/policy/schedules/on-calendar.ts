import { type CronFields, restricted, weekdayNames } from './cron-fields.ts';
import type { Schedule } from './schedule.ts';

const two = (value: number): string => String(value).padStart(2, '0');
const list = (values: readonly number[] | null, form: (value: number) => string): string =>
  values === null ? '*' : values.map(form).join(',');

/**
 * The lines `OnCalendar=` of a systemd timer, systemd.time(7). Two lines when cron means either of day and weekday.
 * The zone stands in the line itself, so that the timer does not depend on the host's.
 */
export function onCalendar({ fields, isExact }: Schedule, timeZone: string): string[] {
  const zone = isExact ? 'UTC' : timeZone;
  const days = restricted(fields, 'days');
  const weekdays = restricted(fields, 'weekdays');
  const line = (onDays: readonly number[] | null, onWeekdays: readonly number[] | null): string => {
    const names =
      onWeekdays === null ? '' : `${onWeekdays.map((day) => capital(weekdayNames[day] ?? '')).join(',')} `;
    return `${names}*-${list(restricted(fields, 'months'), two)}-${list(onDays, two)} ${timeOf(fields)} ${zone}`;
  };
  return days !== null && weekdays !== null
    ? [line(days, null), line(null, weekdays)]
    : [line(days, weekdays)];
}

const timeOf = (fields: CronFields): string =>
  `${list(restricted(fields, 'hours'), two)}:${list(restricted(fields, 'minutes'), two)}:00`;

const capital = (name: string): string => name.charAt(0).toUpperCase() + name.slice(1);
