import { expect, test } from 'vitest';
import { joinGuestPath, pathUnknown, splitGuestPath } from './guest-path.ts';

const split = (path: string | Buffer) => splitGuestPath(path).map((name) => name.toString('latin1'));

test.each([
  ['', []],
  ['/', []],
  ['//a///b/./c/', ['a', 'b', 'c']],
  ['/a/../b', ['a', '..', 'b']],
  ['/...', ['...']],
])('%j is cut at its slashes', (path, wanted) => {
  expect(split(path)).toEqual(wanted);
});

test('raw bytes survive', () => {
  const path = Buffer.from('/x\xff/\n', 'latin1');
  expect(split(path)).toEqual(['x\xff', '\n']);
  expect(joinGuestPath(splitGuestPath(path))).toEqual(path);
});

test.each(['a', 'a/b', '../etc', '/a\0b', `/${'x'.repeat(256)}`, `/${'x/'.repeat(2100)}`])(
  '%j is refused',
  (path) => {
    expect(() => splitGuestPath(path)).toThrow(expect.objectContaining({ code: 'PATH_INVALID' }));
  },
);

test.each([
  ['/var/www/index.php', '/var/www'],
  ['/no', '/'],
  ['', '/'],
])('who asks for the absent %j is told to look in %j', (path, folder) => {
  expect(pathUnknown(path).hint).toContain(`--path ${folder}\``);
});
