import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openDownload } from '../../src/restore/browse/download.ts';
import { listFiles } from '../../src/restore/browse/list-files.ts';
import type { OpenMount } from '../../src/restore/mount/mount-request.ts';
import { BrowsedGuest, readAll } from './browsed-guest.ts';
import { openFds, tool } from './restore-fixtures.ts';

let guest: BrowsedGuest;
let one: OpenMount;

beforeAll(async () => {
  guest = new BrowsedGuest(100);
  one = await guest.openOne();
}, 120_000);
afterAll(async () => {
  try {
    await one?.close();
    expect(guest.bench.leftovers()).toEqual([]);
  } finally {
    await guest?.bench[Symbol.asyncDispose]();
  }
});

test.each([
  '/evil/absolute',
  '/evil/absolute-folder/passwd',
  '/evil/up',
  '/evil/climb',
  '/evil/root/etc/passwd',
  '/evil/root/evil/root/evil/up',
  '/../../../../etc/passwd',
  '/evil/absolute-folder/../etc/passwd',
  '/etc/./passwd',
  '//etc//passwd',
  '/deep/a/b/back/passwd',
  '/deep/a/b/back/../../../etc/passwd',
  '/evil/dot/dot/dot/absolute',
  '/etc/passwd/',
])('%s stays in the guest', async (path) => {
  expect(await readAll(one, path)).toBe('the passwd of the guest\n');
});

test.each([
  ['/evil/proc', 'PATH_UNKNOWN'],
  ['/evil/proc/etc/passwd', 'PATH_UNKNOWN'],
  ['/evil/proc-cwd', 'PATH_UNKNOWN'],
  ['/evil/shadow', 'PATH_UNKNOWN'],
  ['/evil/host', 'PATH_UNKNOWN'],
  ['/evil/loop-a', 'PATH_INVALID'],
  ['/evil/loop-a/x', 'PATH_INVALID'],
  ['/proc/self/root/etc/passwd', 'PATH_UNKNOWN'],
  ['/etc/passwd/..', 'PATH_UNKNOWN'],
  ['/etc/passwd/x', 'PATH_UNKNOWN'],
  ['/nothing', 'PATH_UNKNOWN'],
  ['etc/passwd', 'PATH_INVALID'],
  ['../etc', 'PATH_INVALID'],
  ['/etc\0/passwd', 'PATH_INVALID'],
  [`/${'x'.repeat(256)}`, 'PATH_INVALID'],
  [`/evil${'/dot'.repeat(50)}`, 'PATH_INVALID'],
  ['/special/fifo', 'PATH_WRONG_TYPE'],
  ['/special/block', 'PATH_WRONG_TYPE'],
  ['/special/char', 'PATH_WRONG_TYPE'],
])('%j is refused with %s', async (path, code) => {
  const before = openFds();
  await expect(openDownload(one, path)).rejects.toMatchObject({ code });
  // one of an earlier test may only now be closed
  expect(openFds()).toBeLessThanOrEqual(before);
});

test('a host folder mounted into the guest tree is not entered', async () => {
  const target = join(one.filesystems[0]?.mountPath ?? '', 'var/www');
  tool('mount', '--bind', '/etc', target);
  try {
    await expect(openDownload(one, '/var/www/hostname')).rejects.toMatchObject({ code: 'PATH_INVALID' });
    await expect(listFiles(one, '/var/www', { cursor: null, limit: 5 })).rejects.toMatchObject({
      code: 'PATH_INVALID',
    });
  } finally {
    tool('umount', target);
  }
});

test('many paths, good and bad, leave no descriptor open', async () => {
  const before = openFds();
  const paths = [
    '/evil/up',
    '/evil/loop-a',
    '/special/fifo',
    '/',
    '/huge',
    '/nothing',
    '/deep/a/b/back/passwd',
  ];
  for (let round = 0; round < 20; round += 1) {
    await Promise.all(
      paths.map(async (path) => {
        const download = await openDownload(one, path).catch(() => null);
        await download?.close();
        await download?.close();
        await listFiles(one, path, { cursor: null, limit: 3 }).catch(() => null);
      }),
    );
  }
  // one of an earlier test may only now be closed
  expect(openFds()).toBeLessThanOrEqual(before);
});
