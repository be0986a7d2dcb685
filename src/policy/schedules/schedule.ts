import { type CronFields, parseCron, weekdayNames } from './cron-fields.ts';
import { occurrencesOf } from './occurrences.ts';

/** When something is due, as an operator wrote it. */
export interface Schedule {
  readonly text: string;
  readonly fields: CronFields;
  /** `every 4h` counts whole hours and knows no time zone; everything else is wall clock time. */
  readonly isExact: boolean;
}

const FORM =
  'write "every 4h", "daily at 22:00", "weekdays at 22:00", "weekly on sunday at 03:00", "monthly on 1 at 03:00" or five fields of cron';
const weekday = `(?:${weekdayNames.join('|')})[a-z]*`;
const forms = {
  every: /^every (\d+) ?(m|h|d)$/,
  hourly: /^hourly$/,
  daily: /^(daily|weekdays) at (.+)$/,
  weekly: new RegExp(`^weekly on (${weekday}(?:\\s*,\\s*${weekday})*) at (.+)$`),
  monthly: /^monthly on (\d{1,2}(?:\s*,\s*\d{1,2})*) at (.+)$/,
};

/** @throws RangeError that quotes the text and says what to write instead */
export function parseSchedule(text: string): Schedule {
  const known = parsed.get(text);
  if (known) return known;
  const schedule = read(text);
  const first = occurrencesOf(schedule, 'UTC').next(Date.UTC(2024, 0, 1));
  if (first === null) throw new RangeError(`"${text}" never comes`);
  if (parsed.size >= MOST_REMEMBERED) parsed.clear();
  parsed.set(text, schedule);
  return schedule;
}
/** The same few texts are read at every look at what is due. */
const parsed = new Map<string, Schedule>();
const MOST_REMEMBERED = 1_000;

function read(text: string): Schedule {
  const plain = text.trim().toLowerCase().replace(/\s+/g, ' ');
  const wall = (cron: string): Schedule => ({ text, fields: parseCron(cron), isExact: false });
  if (forms.hourly.test(plain)) return { text, fields: parseCron('0 * * * *'), isExact: true };
  const every = forms.every.exec(plain);
  if (every) return { text, fields: parseCron(everyCron(text, Number(every[1]), every[2])), isExact: true };
  const daily = forms.daily.exec(plain);
  if (daily) return wall(`${clockTimes(text, daily[2])} * * ${daily[1] === 'weekdays' ? '1-5' : '*'}`);
  const weekly = forms.weekly.exec(plain);
  if (weekly) {
    const days = (weekly[1] ?? '').split(',').map((day) => day.trim().slice(0, 3));
    return wall(`${clockTimes(text, weekly[2])} * * ${days.join(',')}`);
  }
  const monthly = forms.monthly.exec(plain);
  if (monthly) return wall(`${clockTimes(text, monthly[2])} ${(monthly[1] ?? '').replaceAll(' ', '')} * *`);
  if (!/^[\d*]/.test(plain)) throw new RangeError(`"${text}" is no schedule: ${FORM}`);
  return wall(plain);
}

/** Only parts of a day: then the times are the same every day, and cron and systemd can say them too. */
function everyCron(text: string, amount: number, unit: string | undefined): string {
  if (unit === 'm' && amount >= 1 && 60 % amount === 0) return `*/${amount} * * * *`;
  if (unit === 'h' && amount >= 1 && 24 % amount === 0) return `0 */${amount} * * *`;
  if (unit === 'd' && amount === 1) return '0 0 * * *';
  throw new RangeError(
    `"${text}" does not divide the day evenly: take 5m, 10m, 15m, 20m, 30m, 1h, 2h, 3h, 4h, 6h, 8h, 12h or 1d, or write it as cron`,
  );
}

/** `22:00`, or several of the same minute: `06:00, 22:00`. */
function clockTimes(text: string, times: string | undefined): string {
  const found = (times ?? '').split(',').map((time) => /^([01]?\d|2[0-3]):([0-5]\d)$/.exec(time.trim()));
  const minutes = new Set(found.map((match) => Number(match?.[2])));
  if (found.some((match) => match === null))
    throw new RangeError(`"${text}" has no time of day as in 22:00: ${FORM}`);
  if (minutes.size > 1)
    throw new RangeError(`"${text}" names different minutes: times must share theirs, as in 06:30, 22:30`);
  return `${[...minutes].join()} ${found.map((match) => Number(match?.[1])).join()}`;
}
