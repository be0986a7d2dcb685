import { expect, test } from 'vitest';
import { parseRange } from './range.ts';

test.each([
  ['bytes=0-0', 10, { start: 0, end: 0 }],
  ['bytes=2-5', 10, { start: 2, end: 5 }],
  ['bytes=2-', 10, { start: 2, end: 9 }],
  ['bytes=-3', 10, { start: 7, end: 9 }],
  ['bytes=-30', 10, { start: 0, end: 9 }],
  ['bytes=5-999', 10, { start: 5, end: 9 }],
  ['BYTES = 1-2', 10, { start: 1, end: 2 }],
])('%s of %i bytes', (header, size, wanted) => {
  expect(parseRange(header, size)).toEqual(wanted);
});

test.each([
  undefined,
  '',
  'bytes=',
  'bytes=-',
  'bytes=5-2',
  'bytes=0-1,4-5',
  'items=0-1',
  'bytes=a-b',
  'bytes=-1-2',
  'bytes=1.5-2',
])('%s means the whole file', (header) => {
  expect(parseRange(header, 10)).toBeNull();
});

test.each([
  ['bytes=10-', 10],
  ['bytes=10-20', 10],
  ['bytes=-0', 10],
  ['bytes=0-', 0],
  ['bytes=-1', 0],
])('%s of %i bytes is refused', (header, size) => {
  expect(() => parseRange(header, size)).toThrow(expect.objectContaining({ code: 'RANGE_INVALID' }));
});
