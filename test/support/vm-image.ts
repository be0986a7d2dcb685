import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { qemuArguments } from '../../src/restore/vm/qemu-arguments.ts';
import { cpioOf } from './cpio.ts';

/** What `scripts/build-vm` made in this checkout. */
export const vmFolder = join(import.meta.dirname, '../../build/vm');

/** A test that needs the image must fail, not pass for want of it. */
export function demandVmImage(): void {
  if (!existsSync(join(vmFolder, 'version')))
    throw new Error('The VM image is not built. Run scripts/build-vm; see what it says.');
}

/** The image with files of the test put over it. */
export function changedVmImage(folder: string, files: Readonly<Record<string, string>>): string {
  demandVmImage();
  mkdirSync(folder, { recursive: true });
  for (const name of ['kernel', 'version']) copyFileSync(join(vmFolder, name), join(folder, name));
  const initrd = readFileSync(join(vmFolder, 'initrd'));
  const rest = Buffer.alloc((4 - (initrd.length % 4)) % 4);
  writeFileSync(join(folder, 'initrd'), Buffer.concat([initrd, rest, cpioOf(files)]));
  return folder;
}

/** What every script that is the first process of a VM begins with. */
const prologue = `#!/bin/sh
export PATH=/bin LC_ALL=C
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mount -t tmpfs run /run
mkdir -p /run/lock/lvm /run/lvm /run/cryptsetup /mnt /src
modprobe -q -a virtio_pci virtio_blk
disk() { for place in /sys/block/vd*; do [ "$(cat $place/serial)" = "disk$1" ] && echo "/dev/\${place##*/}"; done; }
crash() { echo "FAILED: $*" >/dev/console; poweroff -n -f; }
`;

/**
 * Runs a shell script as the first process of a VM that writes to raw disks: this kernel makes LVM, RAID and LUKS,
 * the host's may not. The script must end with \`done_making\`, which switches off without unmounting anything.
 * @param disks raw images, by the number that \`disk N\` finds in the script
 */
export function makeInVm(folder: string, script: string, disks: readonly string[]): void {
  const init = `${prologue}done_making() { echo MADE >/dev/console; poweroff -n -f; }\n${script}`;
  changedVmImage(folder, { maker: init });
  const serialLog = join(folder, 'maker.log');
  const args = qemuArguments({
    image: { kernel: join(folder, 'kernel'), initrd: join(folder, 'initrd'), version: '' },
    accelerator: 'tcg',
    memoryMib: 512,
    controlSocket: join(folder, 'c.sock'),
    filesSocket: join(folder, 'f.sock'),
    serialLog,
    init: '/maker',
    disks: disks.map((filename, diskIndex) => ({
      diskIndex,
      overlay: { driver: 'raw', 'read-only': false, file: { driver: 'file', filename } },
    })),
  });
  execFileSync('qemu-system-x86_64', args, { timeout: 120_000, stdio: ['ignore', 'pipe', 'pipe'] });
  const said = readFileSync(serialLog, 'utf8');
  if (!said.includes('MADE')) throw new Error(`the guest was not made:\n${said.slice(-4000)}`);
}
