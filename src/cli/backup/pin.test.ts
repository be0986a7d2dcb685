import { expect, it } from 'vitest';
import { untilTime } from './pin.ts';

it('takes a day to its end, and a time as it is', () => {
  expect(untilTime('2027-01-31')).toBe('2027-01-31T23:59:59.000Z');
  expect(untilTime('2027-01-31T18:00:00+02:00')).toBe('2027-01-31T16:00:00.000Z');
});

it('refuses days that do not exist', () => {
  for (const text of ['2031-02-30', '2027-13-01', 'tomorrow', '2031-02-30T10:00:00Z'])
    expect(() => untilTime(text)).toThrow('It must be a date');
});
