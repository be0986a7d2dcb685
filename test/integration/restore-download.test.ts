import { createWriteStream, mkdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openDownload } from '../../src/restore/browse/download.ts';
import type { OpenMount } from '../../src/restore/mount/mount-request.ts';
import { allOf } from '../support/all-of.ts';
import { BrowsedGuest, readAll } from './browsed-guest.ts';
import { openFds, tool } from './restore-fixtures.ts';

let guest: BrowsedGuest;
let one: OpenMount;

beforeAll(async () => {
  guest = new BrowsedGuest(20_000);
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

test('parts of a file are its bytes', async () => {
  const whole = readFileSync(join(guest.tree, 'special/random'));
  const before = openFds();
  for (const [start, end] of [
    [0, 0],
    [0, 299_999],
    [299_999, 299_999],
    [4095, 4096],
    [100_000, 250_000],
  ] as const) {
    const download = await openDownload(one, '/special/random');
    if (download.kind !== 'file') throw new Error('a file was expected');
    expect(download).toMatchObject({ name: 'random', size: 300_000, uid: 0 });
    expect((await allOf(download.pieces(start, end))).equals(whole.subarray(start, end + 1))).toBe(true);
  }
  expect(await readAll(one, '/special/empty')).toBe('');
  const cut = await openDownload(one, '/special/sparse');
  if (cut.kind === 'file') {
    const stream = cut.pieces(0, cut.size - 1);
    for await (const _ of stream) break;
    expect(cut.etag).toMatch(/^"one-disk0-[a-z0-9-]+"$/);
  }
  await expect.poll(openFds).toBe(before);
});

async function unpack(archive: Readable, name: string): Promise<string> {
  const folder = guest.bench.path(name);
  mkdirSync(folder);
  await pipeline(archive, createWriteStream(`${folder}.archive`));
  tool('tar', '--xattrs', '-xaf', `${folder}.archive`, '-C', folder);
  return folder;
}

test.each(['tar', 'tar.gz', 'tar.zst'] as const)('a folder as %s is the folder', async (format) => {
  const before = openFds();
  const download = await openDownload(one, '/');
  if (download.kind !== 'directory') throw new Error('a folder was expected');
  // the suffix tells tar how to read it
  const folder = guest.bench.path(`out-${format}`);
  mkdirSync(folder);
  const file = guest.bench.path(`archive.${format}`);
  await pipeline(await download.archive(format, new AbortController().signal), createWriteStream(file));
  tool('tar', '--xattrs', '-xaf', file, '-C', folder);
  // --no-dereference compares links themselves; device nodes and pipes by their kind
  expect(
    tool('diff', '-r', '--no-dereference', '-x', 'fifo', '-x', 'block', '-x', 'char', guest.tree, folder),
  ).toBe('');
  expect(statSync(join(folder, 'special/fifo')).isFIFO()).toBe(true);
  expect(statSync(join(folder, 'special/hard')).ino).toBe(statSync(join(folder, 'special/hard2')).ino);
  expect(statSync(join(folder, 'special/sparse')).blocks).toBeLessThan(64);
  expect(statSync(file).size).toBeLessThan(40_000_000);
  expect(
    tool(
      'python3',
      '-c',
      'import os, sys; print(os.getxattr(sys.argv[1], "user.note").decode(), end="")',
      join(folder, 'special/random'),
    ),
  ).toBe('kept');
  await expect.poll(openFds).toBe(before);
});

test('a folder behind a symlink, and one abandoned half-way', async () => {
  const before = openFds();
  const download = await openDownload(one, '/evil/absolute-folder');
  if (download.kind !== 'directory') throw new Error('a folder was expected');
  expect(download.name).toBe('etc');
  const folder = await unpack(await download.archive('tar', new AbortController().signal), 'etc');
  expect(readFileSync(join(folder, 'passwd'), 'utf8')).toBe('the passwd of the guest\n');
  const abandoned = await openDownload(one, '/huge');
  if (abandoned.kind === 'directory')
    for await (const _ of await abandoned.archive('tar', new AbortController().signal)) break;
  const cancelled = await openDownload(one, '/huge');
  const controller = new AbortController();
  if (cancelled.kind === 'directory') {
    const archive = await cancelled.archive('tar.gz', controller.signal);
    controller.abort();
    await expect(buffer(archive)).rejects.toMatchObject({ code: 'CANCELLED' });
  }
  await expect.poll(openFds).toBe(before);
});
