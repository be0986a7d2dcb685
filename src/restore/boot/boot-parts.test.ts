import { expect, it } from 'vitest';
import { linePattern } from './line-pattern.ts';
import { difference, isBlank, isSamePicture, readPpm, toPng } from './picture.ts';
import { SerialLog } from './serial-log.ts';
import { endingOf, isLoginPrompt } from './telling-lines.ts';

const picture = (fill: (pixel: number) => number) => ({
  width: 100,
  height: 50,
  pixels: Buffer.from(Array.from({ length: 15_000 }, (_, at) => fill(Math.floor(at / 3)))),
});

it('takes a cursor for nothing', () => {
  const black = picture(() => 0);
  const cursor = picture((pixel) => (pixel < 8 ? 255 : 0));
  const text = picture((pixel) => (pixel % 9 === 0 ? 255 : 0));
  expect([black, cursor, text].map(isBlank)).toEqual([true, true, false]);
  expect(isSamePicture(black, cursor)).toBe(true);
  expect(difference(black, text)).toBeCloseTo(1 / 9, 2);
});

it('reads whole pictures only', () => {
  const whole = Buffer.concat([Buffer.from('P6\n2 1\n255\n'), Buffer.alloc(6, 7)]);
  expect(readPpm(whole)).toMatchObject({ width: 2, height: 1 });
  expect(readPpm(whole.subarray(0, -1))).toBeNull();
  expect(toPng(picture(() => 0)).subarray(0, 8)).toEqual(
    Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]),
  );
});

it('tells lines whole, and prompts when nothing follows', () => {
  const lines: string[] = [];
  const log = new SerialLog((line) => lines.push(line));
  log.add(Buffer.from('\x1b[2J\x1b[01;01Hone\r\ntw'));
  log.lookAtUnfinished();
  log.add(Buffer.from('o\nweb1 login: '));
  log.lookAtUnfinished();
  expect(lines).toEqual(['one', 'two']);
  log.lookAtUnfinished();
  expect(lines).toEqual(['one', 'two', 'web1 login:']);
  expect(lines.map(isLoginPrompt)).toEqual([false, false, true]);
});

it('keeps the beginning and the end of what a guest says', () => {
  const log = new SerialLog(() => undefined);
  log.add(Buffer.from('first\n'));
  for (let round = 0; round < 40; round += 1) log.add(Buffer.alloc(100_000, 'x'));
  log.add(Buffer.from('last\n'));
  const kept = log.content();
  expect(kept.length).toBeLessThan(2 * 1024 * 1024);
  expect(log.droppedBytes).toBeGreaterThan(1_500_000);
  expect(kept.toString().startsWith('first\n')).toBe(true);
  expect(kept.toString().endsWith('last\n')).toBe(true);
});

it('stops a pattern that would search for ages', () => {
  const matches = linePattern('^(a+)+$');
  const begun = Date.now();
  expect(matches(`${'a'.repeat(40)}b`)).toBe(false);
  expect(Date.now() - begun).toBeLessThan(2_000);
  expect(matches('aaa')).toBe(true);
  expect(() => linePattern('(')).toThrow('regular expression');
});

it('knows lines after which nothing better comes', () => {
  expect(endingOf('[ 1.0] Kernel panic - not syncing: VFS: no root')).toContain('VFS: no root');
  expect(endingOf('[ OK ] Reached target Multi-User System.')).toBeNull();
});
