import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { LvmGuest } from './lvm-guest.ts';
import { Bench, MIB, sha256, tool } from './restore-fixtures.ts';

/** An ext4 with a file of random bytes. */
function volumeImage(bench: Bench, name: string, mib: number): { image: string; digest: string } {
  const tree = bench.path(`${name}.tree`);
  mkdirSync(tree);
  tool(
    'dd',
    'if=/dev/urandom',
    `of=${join(tree, 'data')}`,
    'bs=1M',
    `count=${Math.floor(mib / 2)}`,
    'status=none',
  );
  const image = bench.path(`${name}.ext4`);
  tool('mkfs.ext4', '-q', '-d', tree, image, `${mib}M`);
  return { image, digest: sha256(join(tree, 'data')) };
}

/** Two disks: a volume in three pieces on both, a striped one, swap, one whose second half is on the other disk only. */
function twoDiskGuest(bench: Bench): { disks: readonly string[]; digests: Map<string, string> } {
  const linear = volumeImage(bench, 'linear', 24);
  const striped = volumeImage(bench, 'striped', 20);
  const swap = bench.path('swap.img');
  tool('truncate', '-s', '8M', swap);
  tool('mkswap', '-q', swap);
  using guest = new LvmGuest(bench, 'guest', 2);
  const [one, two] = [guest.device(0), guest.device(1)];
  guest.create('linear', '-l', '9', one);
  guest.create('swap', '-l', '8', one);
  guest.lvm('lvextend', '-q', '-l', '+6', 'vg0/linear', one);
  guest.lvm('lvextend', '-q', '-l', '+9', 'vg0/linear', two);
  guest.create('striped', '-i', '2', '-I', '64k', '-l', '20', one, two);
  guest.create('empty', '-l', '3', two);
  guest.write('linear', linear.image, MIB);
  guest.write('striped', striped.image, 64 * 1024);
  guest.write('swap', swap, MIB);
  return {
    disks: guest.disks,
    digests: new Map([
      ['lvm-vg0-linear', linear.digest],
      ['lvm-vg0-striped', striped.digest],
    ]),
  };
}

test.each(['loop', 'userspace'] as const)(
  'a volume group across two disks, twice at once, in mode %s',
  async (mode) => {
    await using bench = new Bench();
    const { disks, digests } = twoDiskGuest(bench);
    const layers = disks.map((disk, index) => bench.full(disk, `full${index}.qcow2`));
    const before = layers.map(sha256);
    const request = {
      mode,
      exposeAt: null,
      disks: layers.map((layer, diskIndex) => ({ diskIndex, chain: [layer] })),
    };
    const mounts = await Promise.all(['a', 'b'].map((mountId) => bench.open({ ...request, mountId })));
    for (const mount of mounts) {
      expect(mount.filesystems.map(({ key, status, fsType }) => [key, status, fsType])).toEqual([
        ['disk0', 'container', 'LVM2_member'],
        ['disk1', 'container', 'LVM2_member'],
        ['lvm-vg0-linear', 'mounted', 'ext4'],
        ['lvm-vg0-swap', 'swap', 'swap'],
        ['lvm-vg0-striped', 'mounted', 'ext4'],
        ['lvm-vg0-empty', 'empty', null],
      ]);
      for (const [key, digest] of digests) expect(sha256(join(mount.mountPath, key, 'data'))).toBe(digest);
    }
    for (const mount of mounts) await mount.close();
    expect(bench.leftovers()).toEqual([]);
    expect(layers.map(sha256)).toEqual(before);
  },
);

test('one disk of two: what needs the other one says so', async () => {
  await using bench = new Bench();
  using guest = new LvmGuest(bench, 'guest', 2);
  const whole = volumeImage(bench, 'whole', 16);
  guest.create('whole', '-l', '16', guest.device(0));
  guest.create('half', '-i', '2', '-I', '64k', '-l', '4', guest.device(0), guest.device(1));
  guest.write('whole', whole.image, MIB);
  guest[Symbol.dispose]();
  const layer = bench.full(guest.disks[0] ?? '');
  await using mount = await bench.open({
    mountId: 'm',
    disks: [{ diskIndex: 0, chain: [layer] }],
    exposeAt: null,
  });
  const find = (key: string) => mount.filesystems.find((filesystem) => filesystem.key === key);
  expect(sha256(join(find('lvm-vg0-whole')?.mountPath ?? '', 'data'))).toBe(whole.digest);
  expect(find('lvm-vg0-half')).toMatchObject({
    status: 'unsupported',
    detail: 'a physical volume of it is on none of these disks',
  });
});

test('broken metadata is no volume', async () => {
  await using bench = new Bench();
  using guest = new LvmGuest(bench, 'guest', 1);
  const plain = volumeImage(bench, 'plain', 16);
  guest.create('plain', '-l', '16', guest.device(0));
  guest.write('plain', plain.image, MIB);
  guest[Symbol.dispose]();
  const [disk = ''] = guest.disks;
  const rewrite = (change: (text: string) => string) => {
    const copy = bench.path('changed.img');
    tool('cp', '--sparse=always', disk, copy);
    const bytes = readFileSync(copy);
    writeFileSync(copy, Buffer.from(change(bytes.toString('latin1')), 'latin1'));
    return bench.full(copy, `changed-${Math.random()}.qcow2`);
  };
  // a byte in the text of the newest metadata: its checksum no longer fits
  const spoilt = rewrite((text) => text.replaceAll('extent_count = 16\n', 'extent_count = 99\n'));
  await expect(
    bench.open({ mountId: 'spoilt', disks: [{ diskIndex: 0, chain: [spoilt] }], exposeAt: null }),
  ).rejects.toMatchObject({ code: 'MOUNT_FAILED' });
  expect(bench.leftovers()).toEqual([]);
  expect(statSync(spoilt).size).toBeGreaterThan(0);
});

test('the process that serves volumes is killed: noticed, and nothing is left', async () => {
  await using bench = new Bench();
  const { disks } = twoDiskGuest(bench);
  const layers = disks.map((disk, index) => bench.full(disk, `full${index}.qcow2`));
  const mount = await bench.open({
    mountId: 'm',
    exposeAt: null,
    disks: layers.map((layer, diskIndex) => ({ diskIndex, chain: [layer] })),
  });
  const children = readFileSync(`/proc/self/task/${process.pid}/children`, 'utf8').trim().split(' ');
  const server = children.find((pid) =>
    readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('sendense-volumes'),
  );
  process.kill(Number(server), 'SIGKILL');
  await expect.poll(() => mount.isLost()).toBe(true);
  await mount.close({ force: true });
  await expect.poll(() => bench.leftovers()).toEqual([]);
});
