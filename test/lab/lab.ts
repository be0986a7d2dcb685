// Runs in the lab's VM as root: what needs a kernel with nbd and device mapper, and udev beside it.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { connectNbd, disconnectNbd } from '../../src/mountd/privileged/nbd-work.ts';
import { TestAppliance } from '../support/appliance.ts';

const CYCLES = 50;
const work = '/job/work';
const file = (name: string) => join(work, name);
const sh = (script: string) => execFileSync('sh', ['-ec', script], { encoding: 'utf8', cwd: work });
const sha = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex');
const results: { what: string; ok: boolean; seconds: number; detail: string }[] = [];

function check(isTrue: boolean, text: string): void {
  if (!isTrue) throw new Error(text);
}

async function step(what: string, run: () => Promise<string> | string): Promise<void> {
  const begun = Date.now();
  const done = (ok: boolean, detail: string) => {
    results.push({ what, ok, seconds: (Date.now() - begun) / 1000, detail });
    console.log(
      `${ok ? 'ok    ' : 'FAILED'} ${what}: ${detail} (${((Date.now() - begun) / 1000).toFixed(1)} s)`,
    );
  };
  try {
    done(true, await run());
  } catch (error) {
    done(false, error instanceof Error ? error.message.slice(0, 1500) : String(error));
  }
}

const ioErrors = () => sh('dmesg | grep -ciE "i/o error|buffer i/o|blk_update_request" || true').trim();
const mappings = () => readdirSync('/sys/block').filter((name) => name.startsWith('dm-'));
const connected = () =>
  readdirSync('/sys/block').filter((name) => name.startsWith('nbd') && existsSync(`/sys/block/${name}/pid`));
/** @param maySayErrors the disk was taken away from a mounted file system */
function nothingLeft(maySayErrors = false): void {
  check(mappings().length === 0, `device mapper nodes are left: ${mappings()}`);
  check(connected().length === 0, `devices are left: ${connected()}`);
  if (!maySayErrors)
    check(ioErrors() === '0', `I/O errors: ${sh('dmesg | grep -iE "i/o error" | head -5 || true')}`);
}

/** A disk with a partition each of vfat, ext4 and xfs, and a volume group "vg0" with an ext4 in it. */
function makeDisk(): void {
  const any = `--config 'devices { global_filter=["a|.*|"] }'`;
  sh(`truncate -s 900M disk.img
    printf 'label: gpt\\nsize=64M,type=uefi\\nsize=128M,type=linux\\nsize=400M,type=linux\\nsize=200M,type=lvm\\n' | sfdisk -q disk.img
    dev=$(losetup -fP --show disk.img); udevadm settle
    mkfs.vfat -n EFI "\${dev}p1" >/dev/null; mkfs.ext4 -q "\${dev}p2"; mkfs.xfs -q "\${dev}p3"
    pvcreate -qq ${any} "\${dev}p4"; vgcreate -qq ${any} vg0 "\${dev}p4"; lvcreate -qq ${any} -y -n data -L 120M vg0
    mkfs.ext4 -q /dev/vg0/data
    mkdir -p m
    for one in "\${dev}p1" "\${dev}p2" "\${dev}p3" /dev/vg0/data; do
      mount "$one" m; dd if=/dev/urandom of=m/data.bin bs=1M count=3 status=none; sha256sum <m/data.bin >>digests; umount m
    done
    vgchange -qq -an ${any} vg0; losetup -d "$dev"; udevadm settle`);
}

interface Mount {
  mount_id: string;
  degraded: boolean;
  partitions: {
    key: string;
    fs_type: string | null;
    status: string;
    mount_path: string | null;
    detail: string | null;
  }[];
}

mkdirSync(work, { recursive: true });
await step('the guest disk is made', () => {
  makeDisk();
  return 'vfat, ext4, xfs, and ext4 in a volume group';
});

await step(`${CYCLES} times connected and disconnected by qemu-nbd`, async () => {
  // writable as a mount has it: journals are replayed into an overlay
  sh('qemu-img create -q -f qcow2 -b disk.img -F raw overlay.qcow2');
  sh(`qemu-storage-daemon --daemonize --pidfile qsd.pid \
    --blockdev driver=file,node-name=f,filename=overlay.qcow2 --blockdev driver=qcow2,node-name=d,file=f \
    --nbd-server addr.type=unix,addr.path=n.sock --export type=nbd,id=e,node-name=d,name=disk0,writable=on`);
  let late = 0;
  try {
    for (let cycle = 0; cycle < CYCLES; cycle += 1) {
      const device = await connectNbd(file('n.sock'), 'disk0', file('nbd.log'));
      const parts = [1, 2, 3, 4].map((n) => `${device}p${n}`);
      if (!parts.every((part) => existsSync(part))) late += 1;
      for (const part of parts) check(existsSync(part), `cycle ${cycle}: ${part} is not there`);
      sh(`dd if=${device}p2 of=/dev/null bs=1M count=1 status=none`);
      check(mappings().length === 0, `cycle ${cycle}: the host activated the guest's volume group`);
      await disconnectNbd(device);
    }
  } finally {
    sh('kill $(cat qsd.pid)');
  }
  nothingLeft();
  return `no I/O error, no device left, partitions late ${late} times`;
});

const appliance = new TestAppliance('/job/home', '/job/out/daemon.log');
mkdirSync('/job/home', { recursive: true });
await step(
  'the product starts, backs up and mounts with mode kernel-nbd, through sendense-mountd',
  async () => {
    await appliance.start(['mounts.mode=kernel-nbd']);
    copyFileSync(file('disk.img'), file('second.img'));
    for (const [name, disk] of [
      ['a', 'disk.img'],
      ['b', 'second.img'],
    ] as const) {
      appliance.json('vm', 'add', name, '--disk', file(disk));
      appliance.json('backup', 'start', '--vm', name, '--type', 'full', '--wait');
    }
    return 'two machines with the same disk';
  },
);

const wanted = () => readFileSync(file('digests'), 'utf8').match(/[0-9a-f]{64}/g) ?? [];
function compare(mount: Mount): string {
  const paths = mount.partitions.flatMap(({ mount_path }) => mount_path ?? []);
  const found = paths.map((path) => sha(join(path, 'data.bin'))).sort();
  check(
    found.join() === [...wanted()].sort().join(),
    `other files: ${JSON.stringify(mount.partitions, null, 1)}`,
  );
  return mount.partitions.map(({ key, fs_type, status }) => `${key} ${fs_type} ${status}`).join(', ');
}
const mountOf = (name: string) => appliance.json<Mount>('backup', 'mount', '--backup-id', `latest:${name}`);
const remove = (mount: Mount) => appliance.json('mount', 'remove', mount.mount_id);

await step('vfat, ext4, xfs and the volume are mounted, every file as it was', async () => {
  const mount = mountOf('a');
  try {
    check(connected().length > 0, 'no /dev/nbd is in use: it fell back to something else');
    const said = compare(mount);
    const types = sh(`grep '/job/home' /proc/mounts | awk '{print $1, $3}'`).trim().split('\n').join('; ');
    return `${said}. Kernel: ${types}`;
  } finally {
    remove(mount);
    await sleep(500);
    nothingLeft();
  }
});

await step('two machines with volume groups of the same name are mounted at once', async () => {
  const mounts = [mountOf('a'), mountOf('b')];
  try {
    for (const mount of mounts) compare(mount);
    check(mappings().length === 0, `the host activated a volume group: ${mappings()}`);
    return `${connected().length} devices, both read right`;
  } finally {
    for (const mount of mounts) remove(mount);
    nothingLeft();
  }
});

await step('ten mounts and unmounts of the product', async () => {
  for (let cycle = 0; cycle < 10; cycle += 1) remove(mountOf('a'));
  nothingLeft();
  return 'nothing left';
});

await step('a killed daemon leaves nothing after the next start', async () => {
  mountOf('a');
  await appliance.kill();
  await appliance.start(['mounts.mode=kernel-nbd']);
  nothingLeft(true);
  return 'devices and mounts are gone';
});
await appliance.stop();

const passed = results.filter(({ ok }) => ok).length;
const version = (command: string) => sh(`${command} 2>&1 | head -n 1`).trim();
const rows = results.map(
  ({ what, ok, seconds, detail }) =>
    `| ${what} | ${ok ? 'ok' : 'FAILED'} | ${seconds.toFixed(1)} s | ${detail.replaceAll('|', '/').replaceAll('\n', ' ')} |`,
);
writeFileSync(
  '/job/out/lab.md',
  `# The lab

What needs a whole machine is tried in a VM by \`npm run lab\`: a kernel with nbd and device mapper, udev and LVM. This is
its last run, ${new Date().toISOString().slice(0, 10)}, under emulation (TCG, QEMU @QEMU@): kernel ${version('uname -r')}, in the VM ${version('qemu-nbd --version')},
LVM ${version('lvm version').replace(/^.*version: */, '')}, systemd ${version('systemctl --version')}. ${passed} of ${results.length} passed.

| what | result | time | detail |
| --- | --- | --- | --- |
${rows.join('\n')}
`,
);
console.log(`${passed} of ${results.length} passed`);
process.exitCode = passed === results.length ? 0 : 1;
