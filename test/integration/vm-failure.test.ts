import { spawn } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  writeFileSync,
} from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { sweepMounts } from '../../src/restore/mount/sweep-mounts.ts';
import { chooseAccelerator } from '../../src/restore/vm/accelerator.ts';
import { vmAvailability } from '../../src/restore/vm/vm-image.ts';
import { bytesOf, insideDisk, makePlainDisk } from '../support/guest-disk.ts';
import { changedVmImage, demandVmImage, vmFolder } from '../support/vm-image.ts';
import { MIB } from './restore-fixtures.ts';
import { VmBench } from './vm-bench.ts';

const SOON_MS = 10_000;
let vms: VmBench;
let disk: string;

beforeAll(() => {
  demandVmImage();
  vms = new VmBench();
  disk = vms.bench.path('disk.img');
  const slice = makePlainDisk(disk, 64);
  insideDisk(disk, slice, (root) => writeFileSync(join(root, 'big'), bytesOf('big', 40 * MIB)));
  vms.layer(disk);
});
afterAll(async () => {
  await vms?.[Symbol.asyncDispose]();
});

/** The processes of one VM. */
function pidsOf(name: string, program: string): number[] {
  return vms.bench.pids().filter((pid) => {
    const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
    return words[0] === program && words.some((word) => word.includes(`/${name}`));
  });
}
const kill = (name: string, program: string) => {
  const pids = pidsOf(name, program);
  expect(pids).toHaveLength(1);
  for (const pid of pids) process.kill(pid, 'SIGKILL');
};
const mountLines = (name: string) =>
  readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter((line) => line.includes(`${vms.bench.mountFolder}/${name} `));

async function expectNothingLeft(name: string): Promise<void> {
  await expect
    .poll(() => pidsOf(name, 'qemu-system-x86_64').concat(pidsOf(name, 'sshfs')), { timeout: 5000 })
    .toEqual([]);
  expect(mountLines(name)).toEqual([]);
  expect(readdirSync(join(vms.bench.mountFolder, name))).toEqual([]);
  expect(
    readdirSync(join(vms.bench.runFolder, 'mounts', name)).filter((file) => file.endsWith('.sock')),
  ).toEqual([]);
}

test.each(['qemu-system-x86_64', 'sshfs'])(
  '%s is killed: reads fail soon, closing works',
  async (program) => {
    const name = `kill-${program}`;
    const vm = await vms.open(name, { 0: disk });
    const file = join(vms.bench.mountFolder, name, 'disk0/big');
    const descriptor = openSync(file, 'r');
    readSync(descriptor, Buffer.alloc(4096), 0, 4096, 0);
    expect(vm.isLost()).toBe(false);
    const started = performance.now();
    kill(name, program);
    await expect(readFile(file)).rejects.toThrow();
    await expect.poll(() => vm.isLost(), { timeout: SOON_MS }).toBe(true);
    await vm.close({ force: true });
    closeSync(descriptor);
    expect(performance.now() - started).toBeLessThan(SOON_MS);
    await expectNothingLeft(name);
  },
);

test('a mount in use is busy and stays usable; by force it is closed at once', async () => {
  const vm = await vms.open('busy', { 0: disk });
  const file = join(vms.bench.mountFolder, 'busy/disk0/big');
  const descriptor = openSync(file, 'r');
  await expect(vm.close()).rejects.toMatchObject({ code: 'MOUNT_BUSY' });
  expect(vm.isLost()).toBe(false);
  const last = Buffer.alloc(17);
  expect(readSync(descriptor, last, 0, 17, 40 * MIB - 17)).toBe(17);
  await vm.close({ force: true });
  closeSync(descriptor);
  await expectNothingLeft('busy');
});

test('a VM that stands still is ended, and whoever waits for a file is told', async () => {
  const vm = await vms.open('still', { 0: disk }, [], { silenceLimitMs: 8000 });
  for (const pid of pidsOf('still', 'qemu-system-x86_64')) process.kill(pid, 'SIGSTOP');
  const started = performance.now();
  await expect(readFile(join(vms.bench.mountFolder, 'still/disk0/big'))).rejects.toThrow();
  // 8 s of silence, and 5 s between TERM and KILL
  expect(performance.now() - started).toBeLessThan(20_000);
  expect(vm.isLost()).toBe(true);
  await vm.close({ force: true });
  await expectNothingLeft('still');
});

test('a VM that never reports ends with its last words in the error', async () => {
  const init =
    '#!/bin/sh\n/bin/mount -t devtmpfs dev /dev\necho the guest is stuck >/dev/console\nwhile :; do sleep 1; done\n';
  const stuck = changedVmImage(vms.bench.path('stuck'), { init });
  const opening = vms.open('mute', { 0: disk }, [], { vmFolder: stuck, reportTimeoutMs: 15_000 });
  await expect(opening).rejects.toMatchObject({
    code: 'VM_FAILED',
    message: expect.stringMatching(/did not report within 15 s\n(.*\n)*.*the guest is stuck/),
  });
  await expectNothingLeft('mute');
});

test('a VM that talks nonsense is not believed', async () => {
  const lies = `{"type":"filesystem","key":"../../etc","disks":[0],"partition":null,"offset":0,"size":0,"fs_type":"ext4","label":null,"uuid":null,"status":"mounted","degraded":null,"detail":null}`;
  const report = `say() { printf '%s\\n' "$1" >&3; }\nsay '${lies}'\nsleep 60\n`;
  const liar = changedVmImage(vms.bench.path('liar'), { 'etc/report.sh': report });
  await expect(vms.open('liar', { 0: disk }, [], { vmFolder: liar })).rejects.toMatchObject({
    code: 'VM_FAILED',
    message: expect.stringMatching(/no message of it/),
  });
  await expectNothingLeft('liar');
});

test('a layer that QEMU cannot open is told in its words', async () => {
  writeFileSync(vms.bench.path('broken.qcow2'), 'this is no qcow2');
  const broken = vms.bench.path('broken');
  writeFileSync(broken, Buffer.alloc(MIB));
  await expect(vms.open('broken', { 0: broken })).rejects.toMatchObject({
    message: expect.stringMatching(/not in qcow2 format/),
  });
  await expectNothingLeft('broken');
});

test('without the image it says why and what to run', async () => {
  const nowhere = vms.bench.path('nowhere');
  expect(await vmAvailability(nowhere)).toMatchObject({ isAvailable: false, action: 'scripts/build-vm' });
  await expect(vms.open('none', { 0: disk }, [], { vmFolder: nowhere })).rejects.toMatchObject({
    code: 'VM_UNAVAILABLE',
    hint: 'Run: scripts/build-vm',
  });
});

/** Opens a VM in a process of its own and kills that. */
async function openAndDie(name: string): Promise<void> {
  const source = new URL('../../src/restore/vm/open-vm.ts', import.meta.url).href;
  const folders = vms.folders(name);
  const disks = await vms.disks(folders.runFolder, { 0: disk });
  const deps = { vmFolder, kvmFile: vms.bench.path('kvm') };
  const script = `import { openVm } from ${JSON.stringify(source)};
    const logger = { error() {}, warn() {}, info() {} };
    await openVm({ ...${JSON.stringify(deps)}, logger }, { ...${JSON.stringify({ ...folders, disks, passphrases: [] })}, unmount: async () => {} });
    console.log('open'); setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await new Promise((resolve, reject) => {
    child.stdout.once('data', resolve);
    child.once('exit', reject);
  });
  child.removeAllListeners('exit');
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGKILL');
  await ended;
}

test('when its owner is killed, the VM switches itself off and takes the mount along', async () => {
  await openAndDie('orphan');
  await expect.poll(() => vms.bench.pids(), { timeout: SOON_MS }).toEqual([]);
  await expect.poll(() => mountLines('orphan'), { timeout: SOON_MS }).toEqual([]);
});

test('a mount of which everything was killed at once is swept at the next start', async () => {
  await openAndDie('dead');
  // as the next daemon does it; all at once, so that nobody cleans up
  for (const pid of vms.bench.pids()) process.kill(pid, 'SIGKILL');
  await expect.poll(() => vms.bench.pids()).toEqual([]);
  await sweepMounts(vms.bench.deps());
  expect(mountLines('dead')).toEqual([]);
  expect(readdirSync(vms.bench.mountFolder)).not.toContain('dead');
});

test('a KVM that hangs costs a few seconds once, also over a restart', async () => {
  const folder = vms.bench.path('hanging');
  mkdirSync(folder);
  const shim = join(folder, 'qemu-system-x86_64');
  writeFileSync(shim, `#!/bin/sh\necho tried >>${folder}/tries\nexec sleep 60\n`);
  chmodSync(shim, 0o755);
  const path = process.env['PATH'];
  process.env['PATH'] = `${folder}:${path}`;
  try {
    const image = { kernel: 'k', initrd: 'i', version: '1' };
    const started = performance.now();
    expect(await chooseAccelerator(image, join(folder, 'known'), '/dev/null')).toBe('tcg');
    expect(performance.now() - started).toBeLessThan(8000);
    // another path to the same kernel: nothing in memory knows it, as after a restart
    expect(await chooseAccelerator({ ...image, kernel: 'j' }, join(folder, 'known'), '/dev/null')).toBe(
      'tcg',
    );
    expect(readFileSync(join(folder, 'tries'), 'utf8')).toBe('tried\n');
  } finally {
    process.env['PATH'] = path;
  }
});
