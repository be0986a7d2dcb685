import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type SearchQuery, searchFiles } from '../../src/restore/browse/search/search-files.ts';
import { statFile } from '../../src/restore/browse/stat-file.ts';
import type { OpenMount } from '../../src/restore/mount/mount-request.ts';
import { BrowsedGuest } from './browsed-guest.ts';
import { openFds, tool } from './restore-fixtures.ts';

let guest: BrowsedGuest;
let one: OpenMount;
let two: OpenMount;

beforeAll(async () => {
  guest = new BrowsedGuest(3000);
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

const never = new AbortController().signal;
const query = (pattern: string, changes: Partial<SearchQuery> = {}): SearchQuery => ({
  ...{ pattern, ignoreCase: false, limit: 1000, cursor: null, timeLimitMs: 60_000, signal: never },
  ...changes,
});

/** All answers, one after the other. */
async function all(mount: OpenMount, path: string, pattern: string, changes: Partial<SearchQuery> = {}) {
  const paths: string[] = [];
  let cursor: string | null = null;
  let answers = 0;
  do {
    const answer: Awaited<ReturnType<typeof searchFiles>> = await searchFiles(
      mount,
      path,
      query(pattern, { ...changes, cursor }),
    );
    expect(answer.skipped).toBe(0);
    paths.push(...answer.files.map(({ pathB64 }) => Buffer.from(pathB64, 'base64').toString('latin1')));
    cursor = answer.nextCursor;
    answers += 1;
  } while (cursor !== null);
  return { paths, answers };
}

/** What find(1) says of the same tree. */
const found = (...expression: string[]) =>
  tool('find', guest.tree, '-mindepth', '1', ...expression, '-printf', '/%P\\0')
    .split('\0')
    .filter((path) => path !== '');

test.each([
  ['*', 1000],
  ['*', 7],
  ['f1*9', 1000],
  ['*w*', 1],
  ['[!f]*', 100],
])('%s in pages of %i: as find(1), nothing twice', async (pattern, limit) => {
  const before = openFds();
  const { paths, answers } = await all(one, '/', pattern, { limit });
  const wanted = found('-name', pattern).filter((path) => !path.includes('\ufffd'));
  expect(paths.filter((path) => !path.includes('\xff')).toSorted()).toEqual(wanted.toSorted());
  expect(new Set(paths).size).toBe(paths.length);
  if (paths.length > limit) expect(answers).toBeGreaterThanOrEqual(Math.ceil(paths.length / limit));
  // one of an earlier test may only now be closed
  expect(openFds()).toBeLessThanOrEqual(before);
});

test('each entry alone when there is no time: it still ends', async () => {
  const { paths, answers } = await all(one, '/deep', '*', { timeLimitMs: 0 });
  expect(paths).toEqual(['/deep/a', '/deep/a/b', '/deep/a/b/back']);
  expect(answers).toBeGreaterThanOrEqual(3);
});

test('links are found and not followed, below a link the search goes on where it leads to', async () => {
  const { paths } = await all(one, '/', 'passwd');
  expect(paths).toEqual(['/etc/passwd']);
  expect((await all(one, '/evil/absolute-folder', 'PASS*', { ignoreCase: true })).paths).toEqual([
    '/evil/absolute-folder/passwd',
  ]);
  const { files } = await searchFiles(one, '/special', query('link'));
  expect(files).toMatchObject([{ path: '/special/link', type: 'symlink', target: '../etc/passwd' }]);
});

test('several file systems are searched one after the other', async () => {
  for (const limit of [1, 100])
    expect((await all(two, '/', 'passwd', { limit })).paths).toEqual([
      '/disk0/etc/passwd',
      '/disk1/etc/passwd',
    ]);
});

test('a foreign mount is skipped and told, a client that has gone ends it, and nothing stays open', async () => {
  const before = openFds();
  const point = join(one.filesystems[0]?.mountPath ?? '', 'var/www');
  tool('mount', '--bind', '/etc', point);
  try {
    const { files, skipped, skippedExamples } = await searchFiles(one, '/var', query('*'));
    expect(files.map(({ path }) => path)).toEqual(['/var/www']);
    expect([skipped, skippedExamples]).toEqual([1, ['/var/www']]);
  } finally {
    tool('umount', point);
  }
  await expect(searchFiles(one, '/', query('*', { signal: AbortSignal.abort() }))).rejects.toMatchObject({
    code: 'CANCELLED',
  });
  await expect(searchFiles(one, '/etc/passwd', query('*'))).rejects.toMatchObject({
    code: 'PATH_WRONG_TYPE',
  });
  await expect(searchFiles(one, '/', query('*', { cursor: '!' }))).resolves.toBeDefined();
  // one of an earlier test may only now be closed
  expect(openFds()).toBeLessThanOrEqual(before);
});

test('details of files', async () => {
  const before = openFds();
  const details = (path: string, follow = false, previewBytes = 64) =>
    statFile(one, path, { follow, previewBytes });
  expect(await details('/etc/passwd')).toMatchObject({
    ...{ type: 'file', size: 24, links: 1, mediaType: 'text/plain', target: null, xattrs: [] },
    preview: { encoding: 'text', content: 'the passwd of the guest\n', truncated: false },
  });
  expect(await details('/evil/absolute')).toMatchObject({
    type: 'symlink',
    target: '/etc/passwd',
    preview: null,
  });
  expect(await details('/evil/absolute', true)).toMatchObject({ type: 'file', size: 24, name: 'passwd' });
  const sparse = await details('/special/sparse');
  expect([sparse.size, sparse.preview]).toEqual([
    200_000_000,
    expect.objectContaining({ encoding: 'hex', bytes: 64, truncated: true }),
  ]);
  expect(sparse.allocatedBytes).toBeLessThan(65_536);
  expect(await details('/special/random')).toMatchObject({
    xattrs: ['user.note'],
    mediaType: 'application/octet-stream',
  });
  expect(await details('/special/hard')).toMatchObject({ links: 2 });
  expect(await details('/special/fifo')).toMatchObject({ type: 'fifo', preview: null, mediaType: null });
  expect(await details('/special/block')).toMatchObject({ type: 'block', preview: null });
  expect(await statFile(two, '/', { follow: false, previewBytes: 0 })).toMatchObject({ type: 'directory' });
  await expect(details('/evil/loop-a', true)).rejects.toMatchObject({ code: 'PATH_INVALID' });
  await expect(details('/nothing')).rejects.toMatchObject({ code: 'PATH_UNKNOWN' });
  await expect.poll(openFds).toBe(before);
});
