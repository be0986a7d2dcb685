import {
  createWriteStream,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openDownload } from '../../src/restore/browse/download.ts';
import { listFiles } from '../../src/restore/browse/list-files.ts';
import type { OpenMount } from '../../src/restore/mount/open-mount.ts';
import { Bench, openFds, tool } from './restore-fixtures.ts';

const FILES = 20_000;
const bench = new Bench();
const tree = bench.path('tree');
let one: OpenMount;
let two: OpenMount;

/** The same files as on the guest, to compare with. */
function populate(folder: string): void {
  tool('cp', '-a', `${tree}/.`, folder);
}

function makeTree(): void {
  const at = (...names: string[]) => join(tree, ...names);
  for (const name of ['etc', 'var/www', 'evil', 'odd', 'special', 'huge', 'deep/a/b'])
    mkdirSync(at(name), { recursive: true });
  writeFileSync(at('etc/passwd'), 'the passwd of the guest\n');
  writeFileSync(at('var/www/index.php'), '<?php ?>', { mode: 0o640 });
  utimesSync(at('var/www/index.php'), 1_700_000_000, 1_700_000_000);
  const links: Record<string, string> = {
    'evil/absolute': '/etc/passwd',
    'evil/absolute-folder': '/etc',
    'evil/up': '../../../../../../etc/passwd',
    'evil/loop-a': 'loop-b',
    'evil/loop-b': 'loop-a',
    'evil/proc': '/proc/self/root',
    'evil/proc-cwd': '/proc/self/cwd',
    'evil/root': '/',
    'evil/shadow': '/etc/shadow',
    'evil/dot': '.',
    'evil/host': `${bench.folder}/secret`,
    'evil/climb': `${'../'.repeat(100)}etc/passwd`,
    'deep/a/b/back': '../../../etc',
  };
  for (const [name, target] of Object.entries(links)) symlinkSync(target, at(name));
  writeFileSync(bench.path('secret'), 'HOST');
  for (const name of ['x\xff\xfe', 'line\nbreak', ' blank ', 'a\\b', 'quote\'"', '\x01']) {
    writeFileSync(
      Buffer.concat([Buffer.from(`${at('odd')}/`), Buffer.from(name, 'latin1')]),
      `content of ${Buffer.from(name, 'latin1').toString('hex')}`,
    );
  }
  tool('mkfifo', at('special/fifo'));
  tool('mknod', at('special/block'), 'b', '8', '0');
  tool('mknod', at('special/char'), 'c', '1', '3');
  symlinkSync('../etc/passwd', at('special/link'));
  writeFileSync(at('special/hard'), 'two names');
  linkSync(at('special/hard'), at('special/hard2'));
  writeFileSync(at('special/sparse'), 'start');
  truncateSync(at('special/sparse'), 200_000_000);
  writeFileSync(at('special/empty'), '');
  writeFileSync(
    at('special/random'),
    Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * 7919 + (i >> 8)) & 255)),
  );
  tool(
    'python3',
    '-c',
    'import os, sys; os.setxattr(sys.argv[1], "user.note", b"kept")',
    at('special/random'),
  );
  for (let i = 0; i < FILES; i += 1) writeFileSync(at('huge', `f${i}`), '');
}

beforeAll(async () => {
  makeTree();
  const image = bench.filesystem(
    'a.img',
    'ext4',
    (folder) => {
      populate(folder);
      tool('rm', '-r', join(folder, 'lost+found'));
    },
    128,
  );
  const other = bench.filesystem('b.img', 'ext4', (folder) => {
    mkdirSync(join(folder, 'etc'));
    writeFileSync(join(folder, 'etc/passwd'), 'the other');
    writeFileSync(join(folder, 'only-here'), 'found');
  });
  const first = { diskIndex: 0, chain: [bench.full(image, 'a.qcow2')] };
  const second = { diskIndex: 1, chain: [bench.full(other, 'b.qcow2')] };
  one = await bench.open({ mountId: 'one', disks: [first], exposeAt: null });
  two = await bench.open({ mountId: 'two', disks: [first, second], exposeAt: null });
}, 120_000);

afterAll(async () => {
  try {
    await one?.close();
    await two?.close();
    expect(bench.leftovers()).toEqual([]);
  } finally {
    await bench[Symbol.asyncDispose]();
  }
});

async function readAll(mount: OpenMount, path: string | Buffer): Promise<string> {
  await using download = await openDownload(mount, path);
  if (download.kind !== 'file') return download.kind;
  return (await buffer(download.stream(0, download.size - 1))).toString();
}

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
  expect(openFds()).toBe(before);
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
  expect(openFds()).toBe(before);
});

test('any name can be listed and read', async () => {
  const { files } = await listFiles(one, '/odd', { cursor: null, limit: 100 });
  const wanted = readdirSync(join(tree, 'odd'), { encoding: 'latin1' }).sort();
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
  expect(openFds()).toBe(before);
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
  expect(openFds()).toBe(before);
});

test('parts of a file are its bytes', async () => {
  const whole = readFileSync(join(tree, 'special/random'));
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
    expect((await buffer(download.stream(start, end))).equals(whole.subarray(start, end + 1))).toBe(true);
  }
  expect(await readAll(one, '/special/empty')).toBe('');
  const cut = await openDownload(one, '/special/sparse');
  if (cut.kind === 'file') {
    const stream = cut.stream(0, cut.size - 1);
    for await (const _ of stream) break;
    expect(cut.etag).toMatch(/^"one-disk0-[a-z0-9-]+"$/);
  }
  await expect.poll(openFds).toBe(before);
});

async function unpack(archive: Readable, name: string): Promise<string> {
  const folder = bench.path(name);
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
  const folder = bench.path(`out-${format}`);
  mkdirSync(folder);
  const file = bench.path(`archive.${format}`);
  await pipeline(download.archive(format, new AbortController().signal), createWriteStream(file));
  tool('tar', '--xattrs', '-xaf', file, '-C', folder);
  // --no-dereference compares links themselves; device nodes and pipes by their kind
  expect(
    tool('diff', '-r', '--no-dereference', '-x', 'fifo', '-x', 'block', '-x', 'char', tree, folder),
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
  const folder = await unpack(download.archive('tar', new AbortController().signal), 'etc');
  expect(readFileSync(join(folder, 'passwd'), 'utf8')).toBe('the passwd of the guest\n');
  const abandoned = await openDownload(one, '/huge');
  if (abandoned.kind === 'directory')
    for await (const _ of abandoned.archive('tar', new AbortController().signal)) break;
  const cancelled = await openDownload(one, '/huge');
  const controller = new AbortController();
  if (cancelled.kind === 'directory') {
    const archive = cancelled.archive('tar.gz', controller.signal);
    controller.abort();
    await expect(buffer(archive)).rejects.toMatchObject({ code: 'CANCELLED' });
  }
  await expect.poll(openFds).toBe(before);
});
