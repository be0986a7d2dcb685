import { describe, expect, it } from 'vitest';
import { type BucketUnit, bucketKeyOf, bucketLabel } from './bucket.ts';
import { openTimeZone } from './time-zone.ts';

const MINUTE_MS = 60_000;
const labelAt = (unit: BucketUnit, zone: string, text: string) =>
  bucketLabel(unit, bucketKeyOf(unit, Date.parse(text), openTimeZone(zone)));

describe('bucketLabel', () => {
  it.each<[BucketUnit, string, string, string]>([
    ['hour', 'UTC', '2026-11-03T12:59:59.999Z', '2026-11-03T12+00:00'],
    ['hour', 'America/New_York', '2026-11-03T12:00Z', '2026-11-03T07-05:00'],
    ['hour', 'America/St_Johns', '2026-11-03T12:00Z', '2026-11-03T08-03:30'],
    ['day', 'UTC', '2026-11-03T12:00Z', '2026-11-03'],
    ['day', 'UTC', '1969-12-31T23:59Z', '1969-12-31'],
    ['month', 'UTC', '2026-01-31T23:59Z', '2026-01'],
    ['year', 'UTC', '2026-12-31T23:59Z', '2026'],
    // three quarters past: the year begins in Kathmandu at 18:15 UTC
    ['year', 'Asia/Kathmandu', '2025-12-31T18:14Z', '2025'],
    ['year', 'Asia/Kathmandu', '2025-12-31T18:15Z', '2026'],
    ['month', 'Asia/Kathmandu', '2025-12-31T18:15Z', '2026-01'],
    ['hour', 'Asia/Kathmandu', '2025-12-31T19:14Z', '2026-01-01T00+05:45'],
    ['hour', 'Asia/Kathmandu', '2025-12-31T19:15Z', '2026-01-01T01+05:45'],
    // weeks: a Thursday decides the year
    ['week', 'UTC', '2026-11-03T12:00Z', '2026-W45'],
    ['week', 'UTC', '2025-12-28T23:59Z', '2025-W52'],
    ['week', 'UTC', '2025-12-29T00:00Z', '2026-W01'],
    ['week', 'UTC', '2026-12-31T12:00Z', '2026-W53'],
    ['week', 'UTC', '2027-01-03T23:59Z', '2026-W53'],
    ['week', 'UTC', '2027-01-04T00:00Z', '2027-W01'],
    ['week', 'UTC', '2021-01-03T12:00Z', '2020-W53'],
    ['week', 'UTC', '2024-12-30T12:00Z', '2025-W01'],
    ['week', 'Europe/Berlin', '2027-01-03T23:00Z', '2027-W01'],
  ])('of the %s in %s at %s is %s', (unit, zone, text, label) => {
    expect(labelAt(unit, zone, text)).toBe(label);
  });
});

describe('changes of clocks', () => {
  it('makes the hour that comes twice in Berlin two hours', () => {
    expect(labelAt('hour', 'Europe/Berlin', '2026-10-25T00:30Z')).toBe('2026-10-25T02+02:00');
    expect(labelAt('hour', 'Europe/Berlin', '2026-10-25T01:30Z')).toBe('2026-10-25T02+01:00');
  });

  it('leaves out the hour that does not come', () => {
    expect(labelAt('hour', 'Europe/Berlin', '2026-03-29T00:59Z')).toBe('2026-03-29T01+01:00');
    expect(labelAt('hour', 'Europe/Berlin', '2026-03-29T01:00Z')).toBe('2026-03-29T03+02:00');
  });

  it('knows the half hour of Lord Howe', () => {
    expect(labelAt('hour', 'Australia/Lord_Howe', '2026-04-04T14:45Z')).toBe('2026-04-05T01+11:00');
    expect(labelAt('hour', 'Australia/Lord_Howe', '2026-04-04T15:15Z')).toBe('2026-04-05T01+10:30');
    expect(labelAt('hour', 'Australia/Lord_Howe', '2026-10-03T15:29Z')).toBe('2026-10-04T01+10:30');
    expect(labelAt('hour', 'Australia/Lord_Howe', '2026-10-03T15:30Z')).toBe('2026-10-04T02+11:00');
  });

  it.each([
    ['Europe/Berlin', '2026-03-28', 24, 24 * 60],
    ['Europe/Berlin', '2026-03-29', 23, 23 * 60],
    ['Europe/Berlin', '2026-10-25', 25, 25 * 60],
    ['Australia/Lord_Howe', '2026-04-05', 25, 24.5 * 60],
    ['Australia/Lord_Howe', '2026-10-04', 24, 23.5 * 60],
  ])('counts the hours and minutes of the day in %s on %s', (name, day, hours, minutes) => {
    const zone = openTimeZone(name);
    const found = new Set<number>();
    let length = 0;
    const middleMs = Date.parse(`${day}T12:00Z`);
    for (let ms = middleMs - 36 * 60 * MINUTE_MS; ms < middleMs + 36 * 60 * MINUTE_MS; ms += MINUTE_MS) {
      if (bucketLabel('day', bucketKeyOf('day', ms, zone)) !== day) continue;
      found.add(bucketKeyOf('hour', ms, zone));
      length += 1;
    }
    expect([found.size, length]).toEqual([hours, minutes]);
  });
});
