import { expect, test } from 'vitest';
import { newSecret, pinOf, readCode, writeCode } from './pairing-code.ts';

const code = { pin: pinOf('0123456789abcdef'.repeat(4)), secret: newSecret() };

test('what is written can be read, however it is typed', () => {
  const text = writeCode(code);
  expect(text).toMatch(/^([0-9A-HJKMNP-TV-Z]{5}-){5}[0-9A-HJKMNP-TV-Z]{5}$/);
  expect(readCode(text)).toEqual(code);
  expect(
    readCode(` ${text.toLowerCase().replaceAll('-', ' ').replaceAll('0', 'o').replaceAll('1', 'l')}`),
  ).toEqual(code);
});

test('the pin is the beginning of the digest', () => {
  // 0x0123456789… in groups of five bits: 00000 00100 10001 10100 …
  expect(code.pin).toBe('04HMASW9NF6YY093');
});

test.each([
  ['', /0 characters/],
  [writeCode(code).slice(0, -1), /29 characters/],
  [`U${writeCode(code).slice(1)}`, /"U" stands in no code/],
])('%s is refused', (text, why) => {
  expect(() => readCode(text)).toThrow(why);
});

test('most mistyped characters are found at once', () => {
  const text = writeCode(code);
  const found = [...'0123456789ABCDEFGHJKMNPQRSTVWXYZ'].filter((character) => {
    if (text.startsWith(character)) return false;
    try {
      readCode(character + text.slice(1));
      return false;
    } catch {
      return true;
    }
  });
  expect(found.length).toBeGreaterThan(20);
});
