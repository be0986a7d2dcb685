import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openDownload } from '../../src/restore/browse/download.ts';
import { listFiles } from '../../src/restore/browse/list-files.ts';
import type { OpenMount } from '../../src/restore/mount/mount-request.ts';
import { BrowsedGuest, readAll } from './browsed-guest.ts';
import { openFds } from './restore-fixtures.ts';

const FILES = 20_000;
let guest: BrowsedGuest;
let one: OpenMount;
let two: OpenMount;

beforeAll(async () => {
  guest = new BrowsedGuest(FILES);
  one = await guest.openOne();
  two = await guest.openTwo();
}, 120_000);
afterAll(async () => {
  try {
    await one?.close();
    await two?.close();
    expect(guest.bench.leftovers()).toEqual([]);
  } finally {
    await guest?.bench[Symbol.asyncDispose]();
  }
});

test('any name can be listed and read', async () => {
  const { files } = await listFiles(one, '/odd', { cursor: null, limit: 100 });
  const wanted = readdirSync(join(guest.tree, 'odd'), { encoding: 'latin1' }).sort();
  expect(files.map(({ nameB64 }) => Buffer.from(nameB64, 'base64').toString('latin1'))).toEqual(wanted);
  for (const { nameB64 } of files) {
    const name = Buffer.from(nameB64, 'base64');
    expect(await readAll(one, Buffer.concat([Buffer.from('/odd/'), name]))).toBe(
      `content of ${name.toString('hex')}`,
    );
  }
});

test('entries say what they are and are never followed', async () => {
  const { path, files, nextCursor } = await listFiles(one, '/special', { cursor: null, limit: 100 });
  expect([path, nextCursor]).toEqual(['/special', null]);
  expect(files.map(({ name, type }) => [name, type])).toEqual([
    ['block', 'block'],
    ['char', 'char'],
    ['empty', 'file'],
    ['fifo', 'fifo'],
    ['hard', 'file'],
    ['hard2', 'file'],
    ['link', 'symlink'],
    ['random', 'file'],
    ['sparse', 'file'],
  ]);
  expect(files.find(({ name }) => name === 'link')).toMatchObject({ target: '../etc/passwd', size: 13 });
  const [index] = (await listFiles(one, '/var/www', { cursor: null, limit: 1 })).files;
  expect(index).toEqual({
    name: 'index.php',
    nameB64: 'aW5kZXgucGhw',
    type: 'file',
    size: 8,
    mode: 0o640,
    uid: 0,
    gid: 0,
    mtime: '2023-11-14T22:13:20.000Z',
  });
  await expect(listFiles(one, '/etc/passwd', { cursor: null, limit: 5 })).rejects.toMatchObject({
    code: 'PATH_WRONG_TYPE',
  });
});

test('a large folder comes in pages, each name once and in order', async () => {
  const before = openFds();
  const names: string[] = [];
  let cursor: string | null = null;
  let pages = 0;
  const started = performance.now();
  do {
    const page: Awaited<ReturnType<typeof listFiles>> = await listFiles(one, '/huge', {
      cursor,
      limit: 3000,
    });
    names.push(...page.files.map(({ name }) => name));
    cursor = page.nextCursor;
    pages += 1;
  } while (cursor !== null);
  expect(performance.now() - started).toBeLessThan(10_000);
  expect(pages).toBe(7);
  expect(names).toEqual(Array.from({ length: FILES }, (_, i) => `f${i}`).sort());
  // one of an earlier test may only now be closed
  expect(openFds()).toBeLessThanOrEqual(before);
});

test('several file systems: keys, search, ambiguity', async () => {
  const list = (path: string) => listFiles(two, path, { cursor: null, limit: 100 });
  for (const path of ['', '/', '/..', '/.'])
    expect((await list(path)).files.map(({ name, type }) => [name, type])).toEqual([
      ['disk0', 'directory'],
      ['disk1', 'directory'],
    ]);
  expect((await listFiles(two, '/', { cursor: null, limit: 1 })).nextCursor).not.toBeNull();
  expect(await readAll(two, '/disk1/etc/passwd')).toBe('the other');
  expect(await readAll(two, '/disk0/evil/up')).toBe('the passwd of the guest\n');
  expect(
    await readAll(two, '/disk1/../../disk1/../etc/passwd').catch((error: { code: string }) => error.code),
  ).toBe('PATH_UNKNOWN');
  expect(await readAll(two, '/only-here')).toBe('found');
  expect(await readAll(two, '/var/www/index.php')).toBe('<?php ?>');
  const before = openFds();
  await expect(openDownload(two, '/etc/passwd')).rejects.toMatchObject({
    code: 'PATH_AMBIGUOUS',
    fields: { candidates: ['/disk0/etc/passwd', '/disk1/etc/passwd'], example: '/disk0/etc/passwd' },
  });
  await expect(openDownload(two, '/no')).rejects.toMatchObject({
    code: 'PATH_UNKNOWN',
    fields: { path: '/no' },
  });
  await expect(openDownload(two, '/disk1/no')).rejects.toMatchObject({
    code: 'PATH_UNKNOWN',
    fields: { path: '/disk1/no' },
  });
  await expect(openDownload(two, '/')).rejects.toMatchObject({ code: 'PATH_WRONG_TYPE' });
  // one of an earlier test may only now be closed
  expect(openFds()).toBeLessThanOrEqual(before);
});
