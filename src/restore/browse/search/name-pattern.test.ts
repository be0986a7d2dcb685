import { expect, test } from 'vitest';
import { namePattern } from './name-pattern.ts';

const latin1 = (text: string) => Buffer.from(text).toString('latin1');

test.each([
  ['*.conf', 'a.conf', true],
  ['*.conf', '.conf', true],
  ['*.conf', 'a.conf.bak', false],
  ['*', '', true],
  ['?', '', false],
  ['a?c', 'abc', true],
  ['a?c', 'äc', false],
  ['?c', 'äc', true],
  ['*a*b*c', 'xaxbxc', true],
  ['*a*b*c', 'xaxcxb', false],
  ['[a-c]x', 'bx', true],
  ['[!a-c]x', 'bx', false],
  ['[!a-c]x', 'dx', true],
  ['[]]', ']', true],
  ['[a-]', '-', true],
  ['\\*', '*', true],
  ['\\*', 'a', false],
  ['a.b', 'axb', false],
  ['A*', 'abc', false],
  ['ä*', 'ärger\n', true],
])('%s and %j: %s', (pattern, name, wanted) => {
  expect(namePattern(pattern, false)(latin1(name))).toBe(wanted);
});

test('without case', () => {
  expect(namePattern('*.CONF', true)(latin1('Ä.conf'))).toBe(true);
  expect(namePattern('ä*', true)(latin1('Ärger'))).toBe(true);
});

test('a name that is no UTF-8 is compared too', () => {
  expect(namePattern('x*', false)('x\xff\xfe')).toBe(true);
});

test.each(['', 'a/b', '[a', 'a\\', 'x'.repeat(256)])('%j is refused', (pattern) => {
  expect(() => namePattern(pattern, false)).toThrow(expect.objectContaining({ code: 'REQUEST_INVALID' }));
});

test('no pattern takes long', () => {
  const started = performance.now();
  expect(namePattern(`${'*a'.repeat(100)}b`, false)('a'.repeat(255))).toBe(false);
  expect(performance.now() - started).toBeLessThan(200);
});
