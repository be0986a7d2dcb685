import { expect, test } from 'vitest';
import { firstIndexAfter } from './directory-names.ts';

test('finds where the next page starts, also when the name has gone', () => {
  const names = ['a', 'b', 'd', '\xff'];
  expect(['', 'a', 'c', 'd', '\xfe', '\xff'].map((name) => firstIndexAfter(names, name))).toEqual([
    0, 1, 2, 3, 3, 4,
  ]);
  expect(firstIndexAfter([], 'a')).toBe(0);
});
