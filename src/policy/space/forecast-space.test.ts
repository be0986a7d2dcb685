import { expect, it } from 'vitest';
import { forecastSpace } from './forecast-space.ts';

const now = new Date('2026-11-20T12:00:00Z');
/** The last of these is today. */
const days = (...used: number[]) =>
  used.map((usedBytes, index) => ({
    day: new Date(now.getTime() - (used.length - 1 - index) * 86_400_000).toISOString().slice(0, 10),
    usedBytes,
  }));

it('draws a straight line', () => {
  expect(forecastSpace(days(10, 20, 30, 40, 50), 105, 5, now)).toEqual({
    growthBytesPerDay: 10,
    fullAt: new Date('2026-11-30T12:00:00Z'),
  });
});

it('is not turned by a first full', () => {
  expect(forecastSpace(days(0, 1000, 1010, 1020, 1030, 1040), 10_000, 0, now).growthBytesPerDay).toBe(10);
});

it('sees growth that comes once a week, and none where a weekly prune takes it away again', () => {
  const month = Array.from({ length: 30 }, (_, index) => index);
  const weekly = days(...month.map((day) => 70 * Math.floor(day / 7)));
  expect(forecastSpace(weekly, 1000, 0, now).growthBytesPerDay).toBe(10);
  const steady = days(...month.map((day) => 1000 + 10 * (day % 7)));
  expect(forecastSpace(steady, 100, 0, now)).toEqual({ growthBytesPerDay: 0, fullAt: null });
});

it('has no date for what shrinks, stands still or grows for ages', () => {
  expect(forecastSpace(days(50, 40, 30, 20, 10), 100, 0, now)).toEqual({
    growthBytesPerDay: -10,
    fullAt: null,
  });
  expect(forecastSpace(days(5, 5, 5, 5, 5), 100, 0, now).fullAt).toBeNull();
  expect(forecastSpace(days(1, 2, 3, 4, 5), 1e9, 0, now).fullAt).toBeNull();
});

it('says nothing before there are five days, and forgets what is older than thirty', () => {
  expect(forecastSpace(days(1, 2, 3, 4), 100, 0, now)).toEqual({ growthBytesPerDay: null, fullAt: null });
  const old = days(...Array.from({ length: 60 }, (_, index) => (index < 30 ? index * 1000 : 30_000)));
  expect(forecastSpace(old, 100, 0, now).growthBytesPerDay).toBe(0);
});

it('is full now when only the reserve is left', () => {
  expect(forecastSpace(days(1, 1, 1, 1, 1), 5, 5, now).fullAt).toEqual(now);
});
