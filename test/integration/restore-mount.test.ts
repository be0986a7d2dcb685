import { closeSync, mkdirSync, openSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { OpenMount } from '../../src/restore/mount/mount-request.ts';
import { Bench, MIB, sha256, tool } from './restore-fixtures.ts';

const single = (mountId: string, chain: string[], exposeAt: string | null = null) => ({
  mountId,
  disks: [{ diskIndex: 0, chain }],
  exposeAt,
});

/** GPT: ext4, xfs, swap, LUKS, nothing. */
function gptDisk(bench: Bench): string {
  const disk = bench.path('gpt.img');
  tool('truncate', '-s', '480M', disk);
  writeFileSync(
    bench.path('script'),
    'label: gpt\nstart=1MiB,size=64MiB\nstart=65MiB,size=320MiB\nstart=385MiB,size=16MiB\nstart=401MiB,size=16MiB\nstart=417MiB,size=16MiB\n',
  );
  tool('sh', '-c', `sfdisk -q ${disk} < ${bench.path('script')}`);
  tool('mkfs.ext4', '-q', '-F', '-L', 'my root', '-E', `offset=${MIB}`, disk, '64M');
  bench.change(disk, 'ext4', MIB, 64 * MIB, (folder) =>
    writeFileSync(join(folder, 'on-ext4'), 'ext4 content'),
  );
  const xfs = bench.filesystem('slice', 'xfs', (folder) =>
    writeFileSync(join(folder, 'on-xfs'), 'xfs content'),
  );
  tool('dd', `if=${xfs}`, `of=${disk}`, 'bs=1M', 'seek=65', 'conv=notrunc,sparse', 'status=none');
  const swap = bench.path('swap');
  tool('truncate', '-s', '16M', swap);
  tool('mkswap', '-q', swap);
  tool('dd', `if=${swap}`, `of=${disk}`, 'bs=1M', 'seek=385', 'conv=notrunc', 'status=none');
  const luks = Buffer.alloc(592);
  luks.write('LUKS\xba\xbe\x00\x01', 'latin1');
  writeFileSync(bench.path('luks'), luks);
  tool('dd', `if=${bench.path('luks')}`, `of=${disk}`, 'bs=1M', 'seek=401', 'conv=notrunc', 'status=none');
  return disk;
}

test('a GPT disk: each partition has its status, all layers stay as they are', async () => {
  await using bench = new Bench();
  const layer = bench.full(gptDisk(bench));
  const before = sha256(layer);
  const started = performance.now();
  const mount = await bench.open(single('m', [layer]));
  expect(performance.now() - started).toBeLessThan(1000);
  expect(
    mount.filesystems.map(({ key, status, fsType, offsetBytes }) => [key, status, fsType, offsetBytes / MIB]),
  ).toEqual([
    ['disk0-p1', 'mounted', 'ext4', 1],
    ['disk0-p2', 'mounted', 'xfs', 65],
    ['disk0-p3', 'swap', 'swap', 385],
    ['disk0-p4', 'unsupported', 'crypto_LUKS', 401],
    ['disk0-p5', 'empty', null, 417],
  ]);
  expect(mount.filesystems[0]?.label).toBe('my root');
  expect(mount.degraded).toBe(false);
  expect(readFileSync(join(mount.mountPath, 'disk0-p1/on-ext4'), 'utf8')).toBe('ext4 content');
  expect(readFileSync(join(mount.mountPath, 'disk0-p2/on-xfs'), 'utf8')).toBe('xfs content');
  const options = readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .filter((line) => line.includes(`${mount.mountPath}/`));
  expect(options).toHaveLength(2);
  for (const line of options) expect(line).toMatch(/ ro,nosuid,nodev,noexec,/);
  await mount.close();
  await mount.close();
  expect(bench.leftovers()).toEqual([]);
  expect(sha256(layer)).toBe(before);
});

test('an MBR disk with a logical partition', async () => {
  await using bench = new Bench();
  const disk = bench.path('mbr.img');
  tool('truncate', '-s', '100M', disk);
  writeFileSync(
    bench.path('script'),
    'label: dos\nstart=2048,size=40960,type=83\nstart=43008,type=5\nstart=45056,size=40960,type=83\n',
  );
  tool('sh', '-c', `sfdisk -q ${disk} < ${bench.path('script')}`);
  for (const [offset, text] of [
    [2048, 'primary'],
    [45056, 'logical'],
  ] as const) {
    tool('mkfs.ext4', '-q', '-F', '-E', `offset=${offset * 512}`, disk, '20M');
    bench.change(disk, 'ext4', offset * 512, 40960 * 512, (folder) =>
      writeFileSync(join(folder, 'which'), text),
    );
  }
  await using mount = await bench.open(single('m', [bench.full(disk)]));
  const seen = mount.filesystems.map(({ key, mountPath }) => [
    key,
    readFileSync(join(mountPath ?? '', 'which'), 'utf8'),
  ]);
  expect(seen).toEqual([
    ['disk0-p1', 'primary'],
    ['disk0-p5', 'logical'],
  ]);
  await mount.close();
  expect(bench.leftovers()).toEqual([]);
});

test.each(['ext4', 'xfs'] as const)(
  '%s without partitions: newest and oldest restore point at once',
  async (type) => {
    await using bench = new Bench();
    const image = bench.filesystem('disk.img', type, (folder) => writeFileSync(join(folder, 'a'), 'old'));
    const full = bench.full(image);
    bench.change(image, type, 0, statSync(image).size, (folder) => writeFileSync(join(folder, 'a'), 'new'));
    const incremental = bench.incremental(image, full, 'inc.qcow2');
    const before = [full, incremental].map(sha256);
    const [newest, oldest] = await Promise.all([
      bench.open(single('newest', [incremental, full])),
      bench.open(single('oldest', [full])),
    ]);
    for (const { filesystems } of [newest, oldest]) {
      expect(filesystems).toMatchObject([
        { key: 'disk0', partitionNumber: null, status: 'mounted', degraded: null },
      ]);
    }
    expect(readFileSync(join(newest.mountPath, 'disk0/a'), 'utf8')).toBe('new');
    expect(readFileSync(join(oldest.mountPath, 'disk0/a'), 'utf8')).toBe('old');
    await Promise.all([newest.close(), oldest.close()]);
    expect(bench.leftovers()).toEqual([]);
    expect([full, incremental].map(sha256)).toEqual(before);
  },
);

/** A crash-consistent copy: 300 files of which only the journal knows. */
function dirtyImage(bench: Bench, type: 'ext4' | 'xfs'): string {
  const image = bench.filesystem('live.img', type, () => undefined);
  const copy = bench.path('crashed.img');
  bench.change(image, type, 0, statSync(image).size, (folder) => {
    mkdirSync(join(folder, 'many'));
    // fsync commits to the journal; syncing the whole file system would also write what the journal is for
    for (let i = 0; i < 300; i += 1)
      writeFileSync(join(folder, 'many', `file-${i}`), `content ${i}`, { flush: true });
    tool('sync', join(folder, 'many'));
    if (type === 'xfs') tool('xfs_io', '-x', '-c', 'shutdown -f', folder);
    tool('cp', '--sparse=always', image, copy);
  });
  return copy;
}

test.each(['ext4', 'xfs'] as const)(
  'the journal of a crashed %s is replayed, the layer is not touched',
  async (type) => {
    await using bench = new Bench();
    const image = dirtyImage(bench, type);
    const layer = bench.full(image);
    const before = sha256(layer);
    // without replay the files are not there: the image really is dirty
    const bare = bench.path('bare');
    mkdirSync(bare);
    tool(
      'mount',
      '-t',
      type,
      '-o',
      type === 'xfs' ? 'loop,ro,norecovery,nouuid' : 'loop,ro,noload',
      image,
      bare,
    );
    const unreplayed = readdirSync(bare).includes('many') ? readdirSync(join(bare, 'many')).length : 0;
    tool('umount', bare);
    expect(unreplayed).toBeLessThan(300);
    await using mount = await bench.open(single('m', [layer]));
    expect(mount.degraded).toBe(false);
    const many = join(mount.mountPath, 'disk0/many');
    expect(readdirSync(many)).toHaveLength(300);
    for (let i = 0; i < 300; i += 1)
      expect(readFileSync(join(many, `file-${i}`), 'utf8')).toBe(`content ${i}`);
    await mount.close();
    expect(bench.leftovers()).toEqual([]);
    expect(sha256(layer)).toBe(before);
  },
);

test('a journal that cannot be replayed is said to be so', async () => {
  await using bench = new Bench();
  const image = dirtyImage(bench, 'ext4');
  const first = /\(0(?:-\d+)?\):(\d+)/.exec(tool('debugfs', '-R', 'stat <8>', image))?.[1];
  const blockSize = Number(/Block size:\s+(\d+)/.exec(tool('dumpe2fs', '-h', image))?.[1]);
  tool(
    'dd',
    'if=/dev/zero',
    `of=${image}`,
    `bs=${blockSize}`,
    `seek=${first}`,
    'count=1',
    'conv=notrunc',
    'status=none',
  );
  await using mount = await bench.open(single('m', [bench.full(image)]));
  expect(mount.degraded).toBe(true);
  expect(mount.filesystems[0]).toMatchObject({ status: 'mounted', degraded: 'journal not replayed' });
});

test('replay never writes more than the limit', async () => {
  await using bench = new Bench();
  const layer = bench.full(dirtyImage(bench, 'xfs'));
  const mount = await bench
    .open(single('m', [layer]), { overlayLimitBytes: MIB })
    .catch((error: unknown) => error);
  if (mount instanceof Error) expect(mount).toMatchObject({ code: 'MOUNT_FAILED' });
  else {
    await using open = mount as OpenMount;
    expect(open.degraded).toBe(true);
    const overlay = statSync(join(bench.runFolder, 'mounts/m/disk0.qcow2'));
    expect(overlay.blocks * 512).toBeLessThanOrEqual(MIB);
    await open.close();
  }
  expect(bench.leftovers()).toEqual([]);
});

test('nothing to mount: MOUNT_FAILED, and nothing stays', async () => {
  await using bench = new Bench();
  const image = bench.path('noise.img');
  tool('dd', 'if=/dev/urandom', `of=${image}`, 'bs=1M', 'count=8', 'status=none');
  writeFileSync(bench.path('broken'), Buffer.alloc(4096));
  const swap = bench.path('swap');
  tool('truncate', '-s', '16M', swap);
  tool('mkswap', '-q', swap);
  for (const [chain, code] of [
    [[bench.full(image, 'a.qcow2')], 'MOUNT_FAILED'],
    [[bench.full(swap, 'b.qcow2')], 'MOUNT_FAILED'],
    [[bench.path('broken')], 'LAYER_REFUSED'],
    [[bench.path('absent')], 'CHAIN_PARENT_MISSING'],
  ] as const) {
    await expect(bench.open(single('m', [...chain]))).rejects.toMatchObject({ code });
    expect(bench.leftovers()).toEqual([]);
  }
});

test('a damaged file system is listed as failed beside a good one', async () => {
  await using bench = new Bench();
  const good = bench.filesystem('good.img', 'ext4', (folder) => writeFileSync(join(folder, 'a'), 'good'));
  const bad = bench.filesystem('bad.img', 'xfs', () => undefined);
  // everything but the superblock
  tool(
    'dd',
    'if=/dev/urandom',
    `of=${bad}`,
    'bs=512',
    'seek=1',
    'count=60000',
    'conv=notrunc',
    'status=none',
  );
  const disks = [
    { diskIndex: 0, chain: [bench.full(good, 'g.qcow2')] },
    { diskIndex: 3, chain: [bench.full(bad, 'b.qcow2')] },
  ];
  await using mount = await bench.open({ mountId: 'm', disks, exposeAt: null });
  expect(mount.filesystems).toMatchObject([
    { key: 'disk0', status: 'mounted' },
    { key: 'disk3', status: 'failed', mountPath: null },
  ]);
  expect(mount.filesystems[1]?.detail).toMatch(/mount/);
  await mount.close();
  expect(bench.leftovers()).toEqual([]);
});

test('shown at the place the operator named, and gone from it at the end', async () => {
  await using bench = new Bench();
  const layer = bench.full(
    bench.filesystem('a.img', 'ext4', (folder) => writeFileSync(join(folder, 'a'), 'x')),
  );
  const one = await bench.open(single('one', [layer], bench.path('new')));
  expect(readFileSync(bench.path('new/a'), 'utf8')).toBe('x');
  expect(() => writeFileSync(bench.path('new/b'), '')).toThrow(/EROFS/);
  expect(readFileSync('/proc/self/mounts', 'utf8')).toMatch(
    new RegExp(`${bench.path('new')} ext4 ro,nosuid,nodev,noexec`),
  );
  mkdirSync(bench.path('empty'));
  const disks = [0, 1].map((diskIndex) => ({ diskIndex, chain: [layer] }));
  const two = await bench.open({ mountId: 'two', disks, exposeAt: bench.path('empty') });
  expect(readFileSync(bench.path('empty/disk1/a'), 'utf8')).toBe('x');
  await one.close();
  await two.close();
  expect(readdirSync(bench.folder)).not.toContain('new');
  expect(readdirSync(bench.path('empty'))).toEqual([]);
  for (const place of ['relative', bench.path('full.qcow2'), bench.path('no/where'), bench.folder]) {
    await expect(bench.open(single('m', [layer], place))).rejects.toMatchObject({
      code: 'OUTPUT_INVALID',
    });
  }
  expect(bench.leftovers()).toEqual([]);
});

test('a mount in use is busy until it is free, or forced', async () => {
  await using bench = new Bench();
  const layer = bench.full(
    bench.filesystem('a.img', 'ext4', (folder) => writeFileSync(join(folder, 'a'), 'x')),
  );
  const mount = await bench.open(single('m', [layer]));
  const fd = openSync(join(mount.mountPath, 'disk0/a'), 'r');
  await expect(mount.close()).rejects.toMatchObject({ code: 'MOUNT_BUSY' });
  expect(readFileSync(join(mount.mountPath, 'disk0/a'), 'utf8')).toBe('x');
  closeSync(fd);
  await mount.close();
  expect(bench.leftovers()).toEqual([]);
  const again = await bench.open(single('m', [layer]));
  const held = openSync(join(again.mountPath, 'disk0/a'), 'r');
  await again.close({ force: true });
  closeSync(held);
  await expect.poll(() => bench.leftovers()).toEqual([]);
});

test('without the nbd module, kernel-nbd falls back to loop', async () => {
  await using bench = new Bench();
  const layer = bench.full(
    bench.filesystem('a.img', 'ext4', (folder) => writeFileSync(join(folder, 'a'), 'x')),
  );
  await using mount = await bench.open(single('m', [layer]), { mode: 'kernel-nbd' });
  expect(readFileSync(join(mount.mountPath, 'disk0/a'), 'utf8')).toBe('x');
});
