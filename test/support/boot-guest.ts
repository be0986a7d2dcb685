import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sh } from './guest-disk.ts';
import { demandVmImage, vmFolder } from './vm-image.ts';

/** What every guest does first. */
const PROLOGUE = `#!/bin/sh
export PATH=/bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
load() { for module in "$@"; do modprobe -q $module; done; }
echo SENDENSE-READY >/dev/ttyS0
`;

/** A guest agent of three questions; the shell is the whole of it. */
export const AGENT = `
load virtio_pci virtio_console
port() { for p in /sys/class/virtio-ports/*; do [ "$(cat $p/name)" = org.qemu.guest_agent.0 ] && echo /dev/\${p##*/}; done; }
while [ -z "$(port)" ]; do sleep 0.1; done
exec 3<>"$(port)"
while read -r line <&3; do
  case "$line" in
    *guest-sync*) echo "{\\"return\\": $(echo "$line" | sed 's/.*"id"[^0-9]*\\([0-9]*\\).*/\\1/')}" >&3 ;;
    *guest-ping*) echo '{"return": {}}' >&3 ;;
  esac
done
`;
export const IDLE = '\nwhile :; do sleep 100; done\n';

/** Modules of the VM image's kernel that guests load. */
const modules = ['virtio_pci', 'virtio_blk', 'virtio_console', 'ext4', 'pvpanic'];

/**
 * Makes a disk that boots with BIOS: SYSLINUX on FAT, the kernel of the VM image, and busybox with this script as the
 * first process.
 */
export function makeBootableDisk(path: string, script: string): void {
  demandVmImage();
  const work = mkdtempSync(join(tmpdir(), 'sd-guest-'));
  try {
    const root = join(work, 'root');
    for (const folder of ['bin', 'dev', 'proc', 'sys', 'mnt', 'run'])
      mkdirSync(join(root, folder), { recursive: true });
    const busybox = sh('sh', '-c', 'command -v busybox').trim();
    copyFileSync(busybox, join(root, 'bin/busybox'));
    for (const applet of sh(busybox, '--list').trim().split('\n'))
      if (applet !== 'busybox') symlinkSync('busybox', join(root, 'bin', applet));
    takeModules(work, root);
    writeFileSync(join(root, 'init'), PROLOGUE + script);
    chmodSync(join(root, 'init'), 0o755);
    sh(
      'sh',
      '-c',
      `cd '${root}' && find . | busybox cpio -o -H newc 2>/dev/null | gzip -1 >'${work}/initrd'`,
    );
    const append = 'console=tty0 console=ttyS0 quiet loglevel=4 mitigations=off nokaslr';
    writeFileSync(
      join(work, 'syslinux.cfg'),
      `DEFAULT linux\nPROMPT 0\nLABEL linux\n KERNEL /kernel\n INITRD /initrd\n APPEND ${append}\n`,
    );
    rmSync(path, { force: true });
    writeFileSync(path, '');
    truncateSync(path, 40 * 1024 * 1024);
    sh('mkfs.vfat', '-F', '16', path);
    sh(
      'mcopy',
      '-i',
      path,
      join(vmFolder, 'kernel'),
      join(work, 'initrd'),
      join(work, 'syslinux.cfg'),
      '::/',
    );
    sh('syslinux', '-i', path);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** With all that they need, so that busybox's modprobe finds it. */
function takeModules(work: string, root: string): void {
  const all = join(work, 'image');
  mkdirSync(all);
  execFileSync('busybox', ['cpio', '-i', '-d', '-m'], {
    cwd: all,
    input: readFileSync(join(vmFolder, 'initrd')),
    stdio: ['pipe', 'ignore', 'ignore'],
    maxBuffer: 256 * 1024 * 1024,
  });
  const version = readFileSync(join(vmFolder, 'version'), 'utf8').trim();
  const folder = join(all, 'lib/modules', version);
  const nameOf = (file: string) => file.replace(/.*\//, '').replace(/\.ko$/, '').replaceAll('-', '_');
  const needs = new Map(
    readFileSync(join(folder, 'modules.dep'), 'utf8')
      .trim()
      .split('\n')
      .map((line): [string, string[]] => [
        nameOf(line.split(':')[0] ?? ''),
        line.replace(':', '').split(' '),
      ]),
  );
  const target = join(root, 'lib/modules', version);
  for (const file of new Set(modules.flatMap((name) => needs.get(name) ?? []))) {
    if (file === '') continue;
    mkdirSync(join(target, file, '..'), { recursive: true });
    copyFileSync(join(folder, file), join(target, file));
  }
  for (const name of ['modules.dep', 'modules.alias', 'modules.symbols', 'modules.builtin'])
    try {
      copyFileSync(join(folder, name), join(target, name));
    } catch {
      // busybox does without most of them
    }
}
