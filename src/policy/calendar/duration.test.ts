import { expect, it } from 'vitest';
import { describeDuration, parseDuration } from './duration.ts';

it.each([
  ['90m', '90 minutes'],
  ['36h', '36 hours'],
  ['14d', '14 days'],
  ['8w', '8 weeks'],
  ['6mo', '6 months'],
  ['1y', '1 year'],
  ['100y', '100 years'],
])('reads %s', (text, words) => {
  const duration = parseDuration(text);
  expect(`${duration.amount}${duration.unit}`).toBe(text);
  expect(describeDuration(duration)).toBe(words);
});

it.each([
  ['', '"" is no duration: write a whole number and one unit'],
  ['14', '"14" has no unit: write a whole number and one unit'],
  ['d', '"d" is no duration'],
  ['14 d', '"14 d" is no duration'],
  ['-3d', '"-3d" is no duration'],
  ['1.5d', '"1.5d" is no duration'],
  ['1y6mo', '"1y6mo" is no duration'],
  ['0d', '"0d" is no time at all'],
  ['3q', '"3q" has the unknown unit "q": write a whole number'],
  ['3D', '"3D" has the unknown unit "D": write 3d'],
  ['6M', '"6M" has the unknown unit "M": for months write 6mo'],
  ['6m', '"6m" is 6 minutes, the least is 60m; for months write 6mo'],
  ['3constructor', 'unknown unit "constructor"'],
  ['101y', '"101y" is longer than 100 years'],
  ['99999999999999999999d', 'is longer than 100 years'],
])('refuses "%s" and says why', (text, message) => {
  expect(() => parseDuration(text)).toThrow(RangeError);
  expect(() => parseDuration(text)).toThrow(message);
});
