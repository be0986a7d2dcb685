import { execFileSync } from 'node:child_process';
import { describe, expect, it, test } from 'vitest';
import { openTimeZone } from '../calendar/time-zone.ts';
import { occurrencesOf } from './occurrences.ts';
import { onCalendar } from './on-calendar.ts';
import { parseSchedule } from './schedule.ts';

const at = (text: string): number => Date.parse(text);

function dueAfter(schedule: string, zone: string, from: string, count: number): string[] {
  const occurrences = occurrencesOf(parseSchedule(schedule), zone);
  const found: string[] = [];
  let instant: number | null = at(from);
  while (found.length < count) {
    instant = occurrences.next(instant ?? 0);
    if (instant === null) break;
    found.push(new Date(instant).toISOString().slice(0, 16));
  }
  return found;
}

describe('what is written', () => {
  test.each([
    ['every 4h', 'Europe/Berlin', ['2026-01-05T04:00', '2026-01-05T08:00']],
    ['hourly', 'Asia/Kathmandu', ['2026-01-05T01:00', '2026-01-05T02:00']],
    ['daily at 22:00', 'Europe/Berlin', ['2026-01-05T21:00', '2026-01-06T21:00']],
    ['Daily at 06:30, 22:30', 'UTC', ['2026-01-05T06:30', '2026-01-05T22:30']],
    ['weekdays at 22:00', 'UTC', ['2026-01-05T22:00', '2026-01-06T22:00']],
    ['weekly on saturday, sun at 03:00', 'UTC', ['2026-01-10T03:00', '2026-01-11T03:00']],
    ['monthly on 1, 15 at 03:00', 'UTC', ['2026-01-15T03:00', '2026-02-01T03:00']],
    ['*/20 8-9 * * mon', 'UTC', ['2026-01-05T08:00', '2026-01-05T08:20']],
    // either of day and weekday, as crontab(5) says
    ['0 0 13 * 5', 'UTC', ['2026-01-09T00:00', '2026-01-13T00:00']],
  ])('%s in %s', (schedule, zone, wanted) => {
    expect(dueAfter(schedule, zone, '2026-01-05T00:00Z', 2)).toEqual(wanted);
  });

  test.each([
    ['every 5h', /divide the day/],
    ['every 0m', /divide the day/],
    ['daily at 25:00', /no time of day/],
    ['daily', /is no schedule/],
    ['daily at 06:30, 22:15', /share theirs/],
    ['0 0 31 2 *', /never comes/],
    ['0 0 * *', /4 fields/],
    ['61 * * * *', /0 to 59/],
    ['5/10 * * * *', /needs a range/],
    ['0 0 L * *', /1 to 31/],
    ['0 0 * * 5-1', /smaller value/],
    ['tomorrow', /is no schedule/],
  ])('%s is refused', (schedule, why) => {
    expect(() => parseSchedule(schedule)).toThrow(why);
  });
});

describe('days on which clocks change', () => {
  it('moves what the clock leaps over to the end of the gap, and runs once what comes twice', () => {
    expect(dueAfter('30 2 * * *', 'Europe/Berlin', '2026-03-28T12:00Z', 2)).toEqual([
      '2026-03-29T01:00',
      '2026-03-30T00:30',
    ]);
    expect(dueAfter('30 2 * * *', 'Europe/Berlin', '2026-10-24T12:00Z', 2)).toEqual([
      '2026-10-25T00:30',
      '2026-10-26T01:30',
    ]);
    expect(dueAfter('daily at 02:30', 'America/New_York', '2026-03-07T12:00Z', 2)).toEqual([
      '2026-03-08T07:00',
      '2026-03-09T06:30',
    ]);
    expect(dueAfter('daily at 01:30', 'America/New_York', '2026-10-31T12:00Z', 2)).toEqual([
      '2026-11-01T05:30',
      '2026-11-02T06:30',
    ]);
  });

  it('goes on every hour', () => {
    const hours = dueAfter('0 * * * *', 'Europe/Berlin', '2026-10-24T22:30Z', 4);
    expect(hours).toEqual(['2026-10-24T23:00', '2026-10-25T00:00', '2026-10-25T01:00', '2026-10-25T02:00']);
  });
});

/** Every minute of a year is asked what a clock on the wall shows. */
test.each([
  ['Europe/Berlin', 2, 30],
  ['America/New_York', 1, 30],
  ['America/New_York', 2, 30],
  ['Australia/Lord_Howe', 1, 45],
  ['Asia/Kathmandu', 0, 0],
])('a year of one time a day in %s, minute by minute', (zone, hour, minute) => {
  const clock = openTimeZone(zone);
  const wanted: number[] = [];
  let shownOn: number | null = null;
  const end = at('2027-01-01T12:00Z');
  for (let instant = at('2026-01-01T12:00Z'); instant < end; instant += 60_000) {
    const localMs = instant + clock.offsetMsAt(instant);
    const day = Math.floor(localMs / 86_400_000);
    const leaptMs = clock.offsetMsAt(instant) - clock.offsetMsAt(instant - 60_000);
    const minuteOfDay = Math.floor(localMs / 60_000) % 1440;
    const wantedMinute = hour * 60 + minute;
    const isInGap =
      leaptMs > 0 && wantedMinute < minuteOfDay && wantedMinute >= minuteOfDay - leaptMs / 60_000;
    if ((minuteOfDay === wantedMinute || isInGap) && shownOn !== day) {
      wanted.push(instant);
      shownOn = day;
    }
  }
  const { next, newest } = occurrencesOf(parseSchedule(`${minute} ${hour} * * *`), zone);
  const found: number[] = [];
  for (let due = next(at('2026-01-01T12:00Z') - 1); due !== null && due < end; due = next(due))
    found.push(due);
  expect(found.map((ms) => new Date(ms).toISOString())).toEqual(
    wanted.map((ms) => new Date(ms).toISOString()),
  );
  for (const [index, due] of found.entries()) {
    expect(newest(due)).toBe(due);
    if (index > 0) expect(newest(due - 1)).toBe(found[index - 1]);
  }
});

describe('systemd means the same', () => {
  // but in the gap: systemd leaves out what the clock leaps over, so the days around it are not compared
  test.each([
    ['every 4h', 'Europe/Berlin'],
    ['every 15m', 'America/New_York'],
    ['daily at 22:00', 'Europe/Berlin'],
    ['weekdays at 06:30', 'America/New_York'],
    ['weekly on sunday, wed at 03:00', 'Asia/Kathmandu'],
    ['monthly on 1, 31 at 03:00', 'UTC'],
    ['0 0 13 * 5', 'Europe/Berlin'],
    ['*/20 8-17/3 * 5-9 mon-fri', 'Europe/Berlin'],
  ])('%s in %s', (text, zone) => {
    const lines = onCalendar(parseSchedule(text), zone);
    const times = new Set<string>();
    for (const line of lines) {
      const shown = execFileSync(
        'systemd-analyze',
        ['calendar', '--base-time=2026-05-01 00:00:01 UTC', '--iterations=12', line],
        { encoding: 'utf8', env: { ...process.env, TZ: 'UTC', LC_ALL: 'C' } },
      );
      for (const [, day, time] of shown.matchAll(/(?:elapse|#\d+): \w+ (\S+) (\d\d:\d\d):\d\d UTC/g))
        times.add(`${day}T${time}`);
    }
    const wanted = [...times].toSorted().slice(0, 12);
    expect(wanted).toHaveLength(12);
    expect(dueAfter(text, zone, '2026-05-01T00:00:01Z', 12)).toEqual(wanted);
  });
});
