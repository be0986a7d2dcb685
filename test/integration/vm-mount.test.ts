import { execFileSync } from 'node:child_process';
import {
  closeSync,
  copyFileSync,
  lstatSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openDownload } from '../../src/restore/browse/download.ts';
import { listFiles } from '../../src/restore/browse/list-files.ts';
import type { OpenVm } from '../../src/restore/vm/open-vm.ts';
import { allOf } from '../support/all-of.ts';
import { sha256 as digest } from '../support/guest-disk.ts';
import { demandVmImage } from '../support/vm-image.ts';
import { MIB, sha256, tool } from './restore-fixtures.ts';
import { sha256sum, VmBench } from './vm-bench.ts';
import {
  CROWD,
  DATA,
  digestOf,
  evilNames,
  makeGuest,
  OLD_SECONDS,
  PASSPHRASE,
  SPARSE_BYTES,
} from './vm-guest.ts';

let vms: VmBench;
/** With the right passphrase; with a wrong one and the same volume group; with members that are not what they were. */
let whole: OpenVm;
let locked: OpenVm;
let odd: OpenVm;
let layers: string[];
let digests: string[];

beforeAll(async () => {
  demandVmImage();
  vms = new VmBench();
  const [disk0 = '', lvm1 = '', lvm2 = '', raid1 = '', raid2 = '', traps = ''] = makeGuest(
    vms.bench.path('guest'),
  );
  const clone = `${lvm1}.clone`;
  copyFileSync(lvm1, clone);
  layers = [disk0, lvm1, lvm2, raid1, raid2, traps, clone].map((image) => vms.layer(image));
  digests = layers.map(sha256);
  [whole, locked, odd] = await Promise.all([
    vms.open('whole', { 0: disk0, 1: lvm1, 2: lvm2, 3: raid1, 4: raid2, 5: traps }, ['no', PASSPHRASE]),
    vms.open('locked', { 0: disk0, 1: lvm1, 2: lvm2 }, ['not it']),
    vms.open('odd', { 0: disk0, 1: lvm1, 2: lvm2, 3: raid1, 7: clone }),
  ]);
}, 150_000);

afterAll(async () => {
  try {
    await Promise.all([whole?.close(), locked?.close(), odd?.close()]);
    expect(vms.bench.pids()).toEqual([]);
    expect(readdirSync(join(vms.bench.mountFolder, 'whole'))).toEqual([]);
    expect(layers.map(sha256)).toEqual(digests);
  } finally {
    await vms?.[Symbol.asyncDispose]();
  }
});

const byKey = (vm: OpenVm, key: string) => {
  const found = vm.filesystems.find((filesystem) => filesystem.key === key);
  if (!found) throw new Error(`no ${key} in ${vm.filesystems.map((each) => each.key).join(' ')}`);
  return found;
};
const inside = (vm: OpenVm, key: string, ...names: string[]) =>
  join(byKey(vm, key).mountPath ?? '', ...names);
const mounted = (vm: OpenVm) =>
  vm.filesystems.filter(({ status }) => status === 'mounted').map(({ key }) => key);

test('every file system is mounted and has the bytes that were written to it', () => {
  const contents: Record<string, string> = {
    'disk0-p1': 'vfat',
    'disk0-p2': 'ext4',
    'disk0-p3': 'xfs',
    'disk0-p5': 'ntfs',
    'disk0-p7': 'btrfs',
    'disk0-p8-luks': 'luks',
    disk5: 'traps',
    'lvm-inner-root': 'nested',
    'lvm-vg0-linear': 'linear',
    'lvm-vg0-striped': 'striped',
    'lvm-vg0-thin': 'thin',
    'md-store': 'raid',
  };
  expect(mounted(whole).toSorted()).toEqual(Object.keys(contents).toSorted());
  for (const [key, name] of Object.entries(contents)) {
    expect([key, sha256sum(inside(whole, key, DATA))]).toEqual([key, digestOf(name)]);
    expect([key, byKey(whole, key).degraded]).toEqual([key, null]);
  }
});

test('what cannot be mounted says what it is', () => {
  const rest = whole.filesystems.filter(({ status }) => status !== 'mounted');
  expect(Object.fromEntries(rest.map(({ key, status, fsType }) => [key, [status, fsType]]))).toEqual({
    'disk0-p4': ['swap', 'swap'],
    'disk0-p6': ['empty', null],
    'disk0-p8': ['container', 'crypto_LUKS'],
    'disk0-p9': ['container', 'crypto_LUKS'],
    'disk0-p9-luks': ['container', 'LVM2_member'],
    disk1: ['container', 'LVM2_member'],
    'disk2-p1': ['container', 'LVM2_member'],
    disk3: ['container', 'linux_raid_member'],
    disk4: ['container', 'linux_raid_member'],
  });
});

test('places, sizes and labels are told as they are', () => {
  const ext4 = byKey(whole, 'disk0-p2');
  expect(ext4).toMatchObject({
    diskIndex: 0,
    partitionNumber: 2,
    offsetBytes: 41 * MIB,
    sizeBytes: 64 * MIB,
  });
  expect([ext4.fsType, ext4.label]).toEqual(['ext4', 'a"b\\c\nd|e$(x)']);
  expect(ext4.uuid).toMatch(/^[0-9a-f-]{36}$/);
  expect(byKey(whole, 'md-store').diskIndexes).toEqual([3, 4]);
  expect(byKey(whole, 'lvm-vg0-linear').diskIndexes).toEqual([1, 2]);
  expect(byKey(whole, 'disk0-p8-luks').sizeBytes).toBeGreaterThan(40 * MIB);
});

test('a dirty journal is replayed', () => {
  const late = inside(whole, 'disk0-p2', 'late');
  expect(readdirSync(late)).toHaveLength(301);
  // what its own blocks say, past the journal
  const own = tool('debugfs', '-R', 'stat /late', `${vms.bench.path('guest/disk0.img')}?offset=${41 * MIB}`);
  expect(own).not.toMatch(/Type: directory/);
});

test('without its passphrase a LUKS stays closed, and nothing else suffers', () => {
  expect(byKey(locked, 'disk0-p8')).toMatchObject({ status: 'locked', mountPath: null });
  expect(byKey(odd, 'disk0-p8').detail).toMatch(/no passphrase was given/);
  expect(mounted(locked)).not.toContain('disk0-p8-luks');
  expect(sha256sum(inside(locked, 'disk0-p3', DATA))).toBe(digestOf('xfs'));
});

test('passphrases are in no command line, log or file', () => {
  const own = vms.bench.pids().map((pid) => readFileSync(`/proc/${pid}/cmdline`, 'utf8'));
  expect(own.length).toBeGreaterThanOrEqual(6);
  const logs = ['qemu.log', 'serial.log', 'sshfs.log'].map((name) =>
    readFileSync(join(vms.bench.runFolder, 'mounts/whole', name), 'utf8'),
  );
  for (const secret of [PASSPHRASE, 'correct horse', Buffer.from(PASSPHRASE).toString('base64')])
    for (const text of [...own, ...logs]) expect(text).not.toContain(secret);
});

test('the same volume group is open in two VMs at once', () => {
  expect(sha256sum(inside(locked, 'lvm-vg0-thin', DATA))).toBe(digestOf('thin'));
  expect(sha256sum(inside(whole, 'lvm-vg0-thin', DATA))).toBe(digestOf('thin'));
});

test('two copies of one LVM disk in one guest are not guessed about', () => {
  expect(mounted(odd).filter((key) => key.startsWith('lvm'))).toEqual([]);
  for (const key of ['disk1', 'disk7'])
    expect(byKey(odd, key)).toMatchObject({ status: 'failed', detail: expect.stringMatching(/not guessed/) });
});

test('a mirror is whole with one of its disks', () => {
  expect(sha256sum(inside(odd, 'md-store', DATA))).toBe(digestOf('raid'));
});

test('hostile names, links and sizes are shown as they are', async () => {
  const folder = inside(whole, 'disk5');
  const names = readdirSync(folder, { encoding: 'buffer' }).map((name) => name.toString('latin1'));
  for (const name of evilNames) {
    expect(names).toContain(name.toString('latin1'));
    const path = Buffer.concat([Buffer.from(`${folder}/`), name]);
    expect(readFileSync(path).equals(name)).toBe(true);
  }
  expect(readlinkSync(join(folder, 'absolute'))).toBe('/etc/passwd');
  expect(readlinkSync(join(folder, 'upwards'))).toBe('../../../../etc/passwd');
  expect(lstatSync(join(folder, 'old')).mtimeMs).toBe(OLD_SECONDS * 1000);
  const sparse = join(folder, 'sparse');
  expect(lstatSync(sparse).size).toBe(SPARSE_BYTES);
  const end = Buffer.alloc(4096, 1);
  const descriptor = openSync(sparse, 'r');
  expect(readSync(descriptor, end, 0, 4096, SPARSE_BYTES - 4096)).toBe(4096);
  closeSync(descriptor);
  expect(end.every((byte) => byte === 0)).toBe(true);
  expect(readdirSync(join(folder, 'crowd'))).toHaveLength(CROWD);
});

test('browsing and downloading work in it, and no path leaves it', async () => {
  const mount = { mountId: 'whole', filesystems: whole.filesystems };
  const { files } = await listFiles(mount, '/disk5', { cursor: null, limit: 100 });
  expect(files.map(({ nameB64 }) => nameB64)).toContain(evilNames[0]?.toString('base64'));
  expect(files.find(({ name }) => name === 'absolute')).toMatchObject({
    type: 'symlink',
    target: '/etc/passwd',
  });
  const crowd = await listFiles(mount, '/disk5/inside', { cursor: null, limit: 3 });
  expect(crowd.files.map(({ name }) => name)).toEqual(['file-0', 'file-1', 'file-10']);
  for (const name of ['absolute', 'upwards', 'magic'])
    await expect(openDownload(mount, `/disk5/${name}`)).rejects.toMatchObject({ code: 'PATH_UNKNOWN' });
  await expect(listFiles(mount, '/disk5/../..', { cursor: null, limit: 9 })).resolves.toMatchObject({
    files: expect.arrayContaining([expect.objectContaining({ name: 'crowd' })]),
  });
  await using download = await openDownload(mount, `/lvm-vg0-thin/${DATA}`);
  if (download.kind !== 'file') throw new Error('it is no file');
  expect(digest(await allOf(download.pieces(0, download.size - 1)))).toBe(digestOf('thin'));
});

test('nothing in it can be written, run or opened as a device', () => {
  const line = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .find((each) => each.includes(` ${vms.bench.mountFolder}/whole `));
  expect(line).toMatch(/ ro,nosuid,nodev,noexec.* - fuse\.sshfs /);
  expect(() => execFileSync('touch', [inside(whole, 'disk5', DATA)], { stdio: 'pipe' })).toThrow(/Read-only/);
});

test('left to choose, a VM is also taken when nothing else could be mounted', async () => {
  const image = vms.bench.path('stick.img');
  tool('truncate', '-s', '40M', image);
  tool('mkfs.vfat', '-F', '32', image);
  writeFileSync(vms.bench.path('note'), 'on a stick');
  tool('mcopy', '-i', image, vms.bench.path('note'), '::Note.txt');
  const disks = [{ diskIndex: 0, chain: [vms.layer(image)] }];
  // this kernel may know vfat; the programs of user space do not
  const deps = { mode: 'auto', hasPrivileges: false } as const;
  await using mount = await vms.bench.open({ mountId: 'stick', disks, exposeAt: null }, deps);
  expect(mount.mode).toBe('vm');
  expect(readFileSync(join(mount.filesystems[0]?.mountPath ?? '', 'Note.txt'), 'utf8')).toBe('on a stick');
});

test('left to choose, a guest with thin volumes is mounted in a VM', async () => {
  const [, lvm1 = '', lvm2 = ''] = layers;
  const disks = [lvm1, lvm2].map((layer, diskIndex) => ({ diskIndex, chain: [layer] }));
  const exposeAt = vms.bench.path('shown');
  await using mount = await vms.bench.open({ mountId: 'auto', disks, exposeAt }, { mode: 'auto' });
  expect(mount.mode).toBe('vm');
  const thin = mount.filesystems.find(({ key }) => key === 'lvm-vg0-thin');
  expect(thin).toMatchObject({ status: 'mounted', reader: 'vm' });
  for (const place of [thin?.mountPath ?? '', join(exposeAt, 'lvm-vg0-thin')])
    expect(sha256sum(join(place, DATA))).toBe(digestOf('thin'));
  await mount.close();
  expect(readdirSync(vms.bench.path('.'))).not.toContain('shown');
});
