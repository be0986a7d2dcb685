import { createWriteStream, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { ArchiveFormat } from '../../src/restore/browse/archive/archive-format.ts';
import { openDownload } from '../../src/restore/browse/download.ts';
import type { OpenMount } from '../../src/restore/mount/mount-request.ts';
import { BrowsedGuest } from './browsed-guest.ts';
import { Bench, MIB, openFds, tool } from './restore-fixtures.ts';

let guest: BrowsedGuest;
let one: OpenMount;

beforeAll(async () => {
  guest = new BrowsedGuest(500);
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

async function save(mount: OpenMount, path: string, format: ArchiveFormat, file: string): Promise<string> {
  await using download = await openDownload(mount, path);
  await pipeline(await download.archive(format, new AbortController().signal), createWriteStream(file));
  return file;
}

test('a zip is whole for every reader, and says what it leaves out', async () => {
  const before = openFds();
  const zip = await save(one, '/', 'zip', guest.bench.path('all.zip'));
  expect(tool('unzip', '-tq', zip)).toContain('No errors detected');
  tool(
    'python3',
    '-c',
    'import sys, zipfile; z = zipfile.ZipFile(sys.argv[1]); assert z.testzip() is None',
    zip,
  );
  const folder = guest.bench.path('unzipped');
  mkdirSync(folder);
  tool('bsdtar', '-xf', zip, '-C', folder);
  for (const name of [
    'etc/passwd',
    'special/random',
    'special/hard',
    'special/hard2',
    'special/empty',
    'odd/ blank ',
  ])
    expect(readFileSync(join(folder, name)).equals(readFileSync(join(guest.tree, name)))).toBe(true);
  expect(statSync(join(folder, 'var/www/index.php')).mtimeMs).toBe(1_700_000_000_000);
  expect(statSync(join(folder, 'var/www/index.php')).mode & 0o777).toBe(0o640);
  expect(statSync(join(folder, 'special/sparse')).size).toBe(200_000_000);
  expect(statSync(zip).size).toBeLessThan(4 * MIB);
  const names = tool(
    'python3',
    '-c',
    'import sys, zipfile; print(*zipfile.ZipFile(sys.argv[1]).namelist(), sep="|")',
    zip,
  );
  for (const left of ['special/fifo', 'special/block', 'special/link', 'evil/absolute', '\\'])
    expect(names.split('|')).not.toContain(left);
  expect(names).not.toContain('\\');
  const told = readFileSync(join(folder, '_left-out.txt'), 'utf8');
  expect(told).toContain('special/fifo: a fifo');
  expect(told).toContain('special/link: a symlink');
  expect(told).toMatch(/odd\/a.*b: is here as odd\/a_b/);
  // every byte of a name that is no UTF-8
  expect(readFileSync(zip).includes(Buffer.from('odd/x\xff\xfe', 'latin1'))).toBe(true);
  await expect.poll(openFds).toBe(before);
});

test('a zip of an empty folder and one that is given up', async () => {
  const before = openFds();
  await using empty = await openDownload(one, '/huge');
  let count = 0;
  for await (const _ of await empty.archive('zip', new AbortController().signal)) if (++count > 3) break;
  const aborter = new AbortController();
  await using cancelled = await openDownload(one, '/huge');
  aborter.abort();
  const stream = await cancelled.archive('zip', aborter.signal);
  await expect(stream.toArray()).rejects.toMatchObject({ code: 'CANCELLED' });
  await expect.poll(openFds).toBe(before);
});

test('one file as a tar keeps its holes, attributes and owner, under its own name', async () => {
  const folder = guest.bench.path('single');
  mkdirSync(folder);
  const sparse = await save(one, '/special/sparse', 'tar', guest.bench.path('sparse.tar'));
  expect(statSync(sparse).size).toBeLessThan(MIB);
  const random = await save(one, '/special/random', 'tar.zst', guest.bench.path('random.tar.zst'));
  tool('tar', '--xattrs', '-xf', random, '-C', folder);
  tool('cmp', join(folder, 'random'), join(guest.tree, 'special/random'));
  expect(
    tool('getfattr', '--only-values', '-n', 'user.note', '--absolute-names', join(folder, 'random')),
  ).toBe('kept');
});

test('a tar holds the subvolumes of a btrfs and nothing that is mounted inside', async () => {
  await using bench = new Bench();
  const image = bench.path('btrfs.img');
  tool('truncate', '-s', '128M', image);
  tool('mkfs.btrfs', '-q', image);
  bench.change(image, 'btrfs', 0, 128 * MIB, (folder) => {
    tool('btrfs', 'subvolume', 'create', join(folder, '@'));
    tool('btrfs', 'subvolume', 'create', join(folder, '@', 'nested'));
    writeFileSync(join(folder, '@', 'nested', 'deep'), 'below two subvolumes');
    mkdirSync(join(folder, '@', 'foreign here'));
  });
  const mount = await bench.open({
    mountId: 'sub',
    disks: [{ diskIndex: 0, chain: [bench.full(image)] }],
    exposeAt: null,
  });
  const point = join(mount.filesystems[0]?.mountPath ?? '', '@', 'foreign here');
  tool('mount', '--bind', '/etc', point);
  try {
    for (const format of ['tar', 'zip'] as const) {
      const file = await save(mount, '/', format, bench.path(`sub.${format}`));
      const names = tool('bsdtar', '-tf', file);
      expect(names).toContain('@/nested/deep');
      expect(names).not.toContain('hostname');
      expect(
        tool('bsdtar', '-xOf', file, ...(format === 'tar' ? ['./@/nested/deep'] : ['@/nested/deep'])),
      ).toBe('below two subvolumes');
    }
  } finally {
    tool('umount', point);
  }
  await mount.close();
  expect(bench.leftovers()).toEqual([]);
});
