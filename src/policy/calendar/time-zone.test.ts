import { describe, expect, it } from 'vitest';
import { isTimeZone, openTimeZone } from './time-zone.ts';

const MINUTE_MS = 60_000;
const at = (text: string) => Date.parse(text);
const offsetMinutes = (zone: string, text: string) => openTimeZone(zone).offsetMsAt(at(text)) / MINUTE_MS;

describe('offsetMsAt', () => {
  it.each([
    ['UTC', '2026-07-01T00:00Z', 0],
    ['Europe/Berlin', '2026-03-29T00:59:59.999Z', 60],
    ['Europe/Berlin', '2026-03-29T01:00Z', 120],
    ['Europe/Berlin', '2026-10-25T00:59:59.999Z', 120],
    ['Europe/Berlin', '2026-10-25T01:00Z', 60],
    ['Asia/Kathmandu', '2026-01-01T00:00Z', 345],
    ['Australia/Lord_Howe', '2026-04-04T14:59Z', 660],
    ['Australia/Lord_Howe', '2026-04-04T15:00Z', 630],
    ['Australia/Lord_Howe', '2026-10-03T15:29Z', 630],
    ['Australia/Lord_Howe', '2026-10-03T15:30Z', 660],
    ['America/St_Johns', '2026-01-01T00:00Z', -210],
    // changes at one minute past the hour
    ['America/St_Johns', '2010-11-07T02:30:59Z', -150],
    ['America/St_Johns', '2010-11-07T02:31Z', -210],
    // the date line moved: a whole day was left out
    ['Pacific/Apia', '2011-12-30T09:59Z', -600],
    ['Pacific/Apia', '2011-12-30T10:00Z', 840],
  ])('knows %s at %s', (zone, text, minutes) => {
    expect(offsetMinutes(zone, text)).toBe(minutes);
  });

  it.each(['Europe/London', 'Africa/Casablanca', 'America/New_York', 'Asia/Tehran', 'Antarctica/Troll'])(
    'agrees with the date and time that Intl writes for %s',
    (timeZone) => {
      const zone = openTimeZone(timeZone);
      const format = new Intl.DateTimeFormat('sv-SE', { timeZone, dateStyle: 'short', timeStyle: 'medium' });
      // 37 hours and 7 minutes walk through all times of day
      for (let ms = at('2021-01-01T00:00Z'); ms < at('2027-01-01T00:00Z'); ms += 2227 * MINUTE_MS) {
        const local = new Date(ms + zone.offsetMsAt(ms)).toISOString().slice(0, 19).replace('T', ' ');
        expect(local).toBe(format.format(ms));
      }
    },
  );
});

describe('isTimeZone', () => {
  it.each(['UTC', 'Europe/Berlin', 'Etc/GMT+5'])('accepts %s', (name) => expect(isTimeZone(name)).toBe(true));
  it.each(['', 'Europe/Berlyn', '+01:00', 'Local', ' UTC'])('refuses "%s"', (name) => {
    expect(isTimeZone(name)).toBe(false);
    expect(() => openTimeZone(name)).toThrow(`"${name}" is no time zone`);
  });
});
