import { mkdirSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { openDownload } from '../../src/restore/browse/download.ts';
import { listFiles } from '../../src/restore/browse/list-files.ts';
import type { MountMode } from '../../src/restore/mount/mount-mode.ts';
import type { OpenMount } from '../../src/restore/mount/mount-request.ts';
import { allOf } from '../support/all-of.ts';
import { leaveLogOpen, scheduleCheck } from './ntfs-image.ts';
import { Bench, MIB, sha256, tool } from './restore-fixtures.ts';

const single = (chain: string[], mode: MountMode) => ({
  mountId: 'm',
  disks: [{ diskIndex: 0, chain }],
  mode,
  exposeAt: null,
});
const kernelKnows = (type: string) => readFileSync('/proc/filesystems', 'utf8').includes(`\t${type}\n`);

/** A folder with some files, by their digests. */
function someFiles(bench: Bench): { folder: string; digests: Map<string, string> } {
  const folder = bench.path('tree');
  mkdirSync(join(folder, 'SUB'), { recursive: true });
  const digests = new Map<string, string>();
  for (const [name, bytes] of [
    ['EMPTY.TXT', 0],
    ['SUB/SMALL.BIN', 5],
    ['SUB/A long name.dat', 70_000],
    ['LARGE.BIN', 3 * MIB + 17],
  ] as const) {
    tool(
      'dd',
      'if=/dev/urandom',
      `of=${join(folder, name)}`,
      'bs=1M',
      `count=${bytes}`,
      'iflag=count_bytes,fullblock',
      'status=none',
    );
    digests.set(name, sha256(join(folder, name)));
  }
  return { folder, digests };
}

function expectFiles(mount: OpenMount, digests: ReadonlyMap<string, string>): void {
  const root = mount.filesystems.find(({ status }) => status === 'mounted')?.mountPath ?? '';
  for (const [name, digest] of digests) expect([name, sha256(join(root, name))]).toEqual([name, digest]);
}

/** Images of one file system each, made by their own tools and never mounted. */
const makers: Record<string, (bench: Bench, tree: string) => string> = {
  vfat: (bench, tree) => {
    const image = bench.path('vfat.img');
    tool('truncate', '-s', '40M', image);
    tool('mkfs.vfat', '-F', '32', image);
    for (const name of readdirSync(tree)) tool('mcopy', '-s', '-i', image, join(tree, name), `::${name}`);
    return image;
  },
  iso9660: (bench, tree) => {
    tool('xorriso', '-as', 'mkisofs', '-quiet', '-R', '-J', '-o', bench.path('cd.iso'), tree);
    return bench.path('cd.iso');
  },
  squashfs: (bench, tree) => {
    tool('mksquashfs', tree, bench.path('fs.sq'), '-quiet', '-no-progress');
    // a disk consists of sectors
    truncateSync(bench.path('fs.sq'), Math.ceil(statSync(bench.path('fs.sq')).size / 4096) * 4096);
    return bench.path('fs.sq');
  },
  ext4: (bench, tree) => {
    tool('mkfs.ext4', '-q', '-d', tree, bench.path('ext4.img'), '32M');
    return bench.path('ext4.img');
  },
};

test.each(
  ['iso9660', 'squashfs', 'ext4'].flatMap((type) =>
    (['loop', 'userspace'] as const).map((mode) => [type, mode] as const),
  ),
)('%s in mode %s: every file is as it was', async (type, mode) => {
  await using bench = new Bench();
  const { folder, digests } = someFiles(bench);
  const layer = bench.full(makers[type]?.(bench, folder) ?? '');
  await using mount = await bench.open(single([layer], mode));
  const byKernel = mode === 'loop' && kernelKnows(type);
  expect(mount.mode).toBe(mode);
  expect(mount.filesystems).toMatchObject([{ fsType: type, status: 'mounted', degraded: null }]);
  expect(mount.filesystems[0]?.reader === 'kernel').toBe(byKernel);
  expectFiles(mount, digests);
  const options = tool('findmnt', '-n', '-o', 'OPTIONS', mount.filesystems[0]?.mountPath ?? '');
  expect(options).toMatch(/^r[ow],nosuid,nodev,noexec,/);
  expect(() => writeFileSync(join(mount.filesystems[0]?.mountPath ?? '', 'new'), 'x')).toThrow(
    /EROFS|EACCES|ENOSYS/,
  );
  await mount.close();
  expect(bench.leftovers()).toEqual([]);
});

/** An NTFS with files in it, written by ntfs-3g. */
function ntfsImage(bench: Bench): { image: string; digests: Map<string, string> } {
  const { folder, digests } = someFiles(bench);
  const image = bench.path('ntfs.img');
  tool('truncate', '-s', '64M', image);
  tool('mkfs.ntfs', '-F', '-Q', '-q', '-L', 'Windows', image);
  const target = bench.path('ntfs');
  mkdirSync(target);
  tool('ntfs-3g', image, target);
  try {
    tool('cp', '-r', `${folder}/.`, target);
  } finally {
    tool('umount', target);
  }
  return { image, digests };
}

test.each(['loop', 'userspace'] as const)('NTFS in mode %s, clean and unclean', async (mode) => {
  await using bench = new Bench();
  const { image, digests } = ntfsImage(bench);
  const clean = await bench.open(single([bench.full(image, 'clean.qcow2')], mode));
  expect(clean.filesystems).toMatchObject([
    { fsType: 'ntfs', label: 'Windows', status: 'mounted', reader: 'ntfs-3g', degraded: null },
  ]);
  expectFiles(clean, digests);
  await clean.close();
  for (const [leave, reason] of [
    [scheduleCheck, /Windows would check it first/],
    [leaveLogOpen, /its log was not replayed/],
  ] as const) {
    leave(image);
    const layer = bench.full(image, `${leave.name}.qcow2`);
    const before = sha256(layer);
    await using unclean = await bench.open(single([layer], mode));
    expect(unclean.degraded).toBe(true);
    expect(unclean.filesystems[0]?.degraded).toMatch(reason);
    expectFiles(unclean, digests);
    await unclean.close();
    expect(sha256(layer)).toBe(before);
  }
  expect(bench.leftovers()).toEqual([]);
});

/** Two subvolumes, one of them the default that the guest boots from. */
function btrfsImage(bench: Bench, text: string): string {
  const image = bench.path('btrfs.img');
  tool('truncate', '-s', '128M', image);
  tool('mkfs.btrfs', '-q', image);
  bench.change(image, 'btrfs', 0, 128 * MIB, (folder) => {
    tool('btrfs', 'subvolume', 'create', join(folder, '@'));
    tool('btrfs', 'subvolume', 'create', join(folder, '@', 'nested'));
    tool('btrfs', 'subvolume', 'set-default', join(folder, '@'));
    writeFileSync(join(folder, '@', 'nested', 'deep'), text);
    writeFileSync(join(folder, 'top'), 'above all subvolumes');
  });
  return image;
}

test('btrfs: all subvolumes, and two restore points of one disk at once', async () => {
  await using bench = new Bench();
  const image = btrfsImage(bench, 'old');
  const full = bench.full(image);
  bench.change(image, 'btrfs', 0, 128 * MIB, (folder) => {
    // the default subvolume is mounted
    writeFileSync(join(folder, 'nested', 'deep'), 'new');
  });
  const incremental = bench.incremental(image, full, 'inc.qcow2');
  const newest = await bench.open({ ...single([incremental, full], 'loop'), mountId: 'newest' });
  const oldest = await bench.open({ ...single([full], 'loop'), mountId: 'oldest' });
  for (const [mount, text] of [
    [newest, 'new'],
    [oldest, 'old'],
  ] as const) {
    expect(mount.filesystems).toMatchObject([{ fsType: 'btrfs', status: 'mounted', degraded: null }]);
    const { files } = await listFiles(mount, '/', { cursor: null, limit: 10 });
    expect(files.map(({ name }) => name)).toEqual(['@', 'top']);
    const nested = await listFiles(mount, '/@/nested', { cursor: null, limit: 10 });
    expect(nested.files.map(({ name }) => name)).toEqual(['deep']);
    const download = await openDownload(mount, '/@/nested/deep');
    if (download.kind !== 'file') throw new Error('it is a file');
    expect((await allOf(download.pieces(0, download.size - 1))).toString()).toBe(text);
  }
  await newest.close();
  await oldest.close();
  expect(bench.leftovers()).toEqual([]);
});

test('userspace: the journal of a crashed ext4 is replayed, and the kernel reads nothing', async () => {
  await using bench = new Bench();
  const image = bench.filesystem('live.img', 'ext4', () => undefined);
  const copy = bench.path('crashed.img');
  bench.change(image, 'ext4', 0, statSync(image).size, (folder) => {
    for (let i = 0; i < 200; i += 1)
      writeFileSync(join(folder, `file-${i}`), `content ${i}`, { flush: true });
    tool('cp', '--sparse=always', image, copy);
  });
  const layer = bench.full(copy);
  const before = sha256(layer);
  await using mount = await bench.open(single([layer], 'userspace'));
  expect(mount.filesystems).toMatchObject([{ reader: 'fuse2fs', status: 'mounted', degraded: null }]);
  const folder = join(mount.mountPath, 'disk0');
  for (let i = 0; i < 200; i += 1)
    expect(readFileSync(join(folder, `file-${i}`), 'utf8')).toBe(`content ${i}`);
  expect(tool('losetup', '-l', '-n', '-O', 'BACK-FILE')).not.toContain(bench.folder);
  await mount.close();
  expect(sha256(layer)).toBe(before);
  expect(bench.leftovers()).toEqual([]);
});

test('userspace: a killed fuse2fs is noticed, hangs nobody and leaves nothing', async () => {
  await using bench = new Bench();
  const { folder } = someFiles(bench);
  const mount = await bench.open(single([bench.full(makers['ext4']?.(bench, folder) ?? '')], 'userspace'));
  for (const pid of bench.pids())
    if (readFileSync(`/proc/${pid}/comm`, 'utf8') === 'fuse2fs\n') process.kill(pid, 'SIGKILL');
  await expect.poll(() => mount.isLost()).toBe(true);
  expect(() => readdirSync(join(mount.mountPath, 'disk0'))).toThrow(/ENOTCONN/);
  await mount.close({ force: true });
  await expect.poll(() => bench.leftovers()).toEqual([]);
});
