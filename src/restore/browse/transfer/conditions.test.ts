import { expect, test } from 'vitest';
import { isNotModified, mayUseRange } from './conditions.ts';

const mtimeMs = Date.UTC(2026, 0, 2, 3, 4, 5, 678);
const file = { etag: '"a-1"', mtimeMs };
const date = new Date(mtimeMs).toUTCString();
const earlier = new Date(mtimeMs - 60_000).toUTCString();
const later = new Date(mtimeMs + 60_000).toUTCString();
const only = (name: string, value: string) => (asked: string) => (asked === name ? value : undefined);

test.each([
  ['If-None-Match', '"a-1"', true],
  ['If-None-Match', 'W/"a-1"', true],
  ['If-None-Match', '"x", "a-1"', true],
  ['If-None-Match', '*', true],
  ['If-None-Match', '"a-2"', false],
  ['If-None-Match', 'a-1', false],
  ['If-None-Match', '', false],
  ['If-Modified-Since', date, true],
  ['If-Modified-Since', later, true],
  ['If-Modified-Since', earlier, false],
  ['If-Modified-Since', 'yesterday or so', false],
])('%s: %s: not modified is %s', (name, value, wanted) => {
  expect(isNotModified(only(name, value), file)).toBe(wanted);
});

test('a tag that differs makes the date meaningless', () => {
  const headers = (name: string) => ({ 'If-None-Match': '"b"', 'If-Modified-Since': later })[name];
  expect(isNotModified(headers, file)).toBe(false);
});

test.each([
  ['"a-1"', true],
  ['W/"a-1"', false],
  ['"a-2"', false],
  [date, true],
  [later, false],
  [earlier, false],
  ['nonsense', false],
])('If-Range: %s: the range counts is %s', (value, wanted) => {
  expect(mayUseRange(only('If-Range', value), file)).toBe(wanted);
});

test('without If-Range a range counts; the date of a file changed within this second proves nothing', () => {
  expect(mayUseRange(() => undefined, file)).toBe(true);
  expect(mayUseRange(only('If-Range', date), file, mtimeMs + 100)).toBe(false);
});
