import { packageOf } from '../../base/process/tool-failure.ts';
import { type FuseFacts, whyNoFuse } from '../../qemu/fuse-unavailable.ts';
import { type Finding, failed, ok, warn } from './finding.ts';

/** What the checks want to know of this machine. */
export interface Host {
  readonly uid: number;
  readonly fuse: FuseFacts;
  readonly now: Date;
  exists(path: string): boolean;
  hasProgram(name: string): boolean;
}

export interface HostNeeds {
  readonly mountMode: string;
  /** Layers are written through FUSE files. */
  readonly writesOverFuse: boolean;
  readonly newestBackup: { readonly id: string; readonly createdAt: string } | null;
}

/** Nobody runs this before it was written; a clock that says so has lost its battery. */
const FIRST_YEAR = 2025;

/** Programs of mounts and downloads, by what does not work without them. */
const programs: readonly (readonly [name: string, purpose: string])[] = [
  ['mount', 'mounting restore points'],
  ['umount', 'mounting restore points'],
  ['losetup', 'mounting restore points'],
  ['blkid', 'mounting restore points'],
  ['sfdisk', 'mounting restore points with partitions'],
  ['tar', 'downloading folders'],
  ['zstd', 'downloading folders as tar.zst, and `backup extract` of folders'],
  ['gzip', 'downloading folders as tar.gz'],
];

export function checkHost(host: Host, needs: HostNeeds): Finding[] {
  return [
    checkFuse(host.fuse, needs.writesOverFuse),
    checkLoop(host),
    ...(needs.mountMode === 'kernel-nbd' ? [checkNbdModule(host)] : []),
    checkPrograms(host, needs),
    checkClock(host.now, needs.newestBackup),
  ];
}

function checkFuse(fuse: FuseFacts, isNeededToWrite: boolean): Finding {
  const check = 'fuse';
  const reason = whyNoFuse(fuse);
  if (reason === null) return ok(check, '/dev/fuse');
  const next = `${reason.action}.`;
  if (isNeededToWrite)
    return failed(
      check,
      `${reason.why}: nothing can be backed up or mounted`,
      `${next} Or set exports.backend=storage-daemon.`,
    );
  // who chose to do without has other ways to mount
  return fuse.hasDevice
    ? warn(check, `${reason.why}: restore points are mounted by kernel nbd only`, next)
    : failed(check, `${reason.why}: restore points cannot be mounted`, next);
}

function checkLoop(host: Host): Finding {
  const check = 'loop devices';
  if (host.exists('/dev/loop-control')) return ok(check, '/dev/loop-control');
  const detail = 'no /dev/loop-control: restore points cannot be mounted by the kernel';
  const next = 'modprobe loop; in a container, pass /dev/loop-control and /dev/loop* to it.';
  return warn(check, detail, next);
}

function checkNbdModule(host: Host): Finding {
  const check = 'nbd module';
  if (host.exists('/sys/module/nbd')) return ok(check, '/sys/module/nbd');
  const detail = 'mounts.mode is kernel-nbd, and the kernel has no nbd module: mounts go over FUSE instead';
  // never advised where FUSE cannot be had
  const next =
    host.fuse.gainsNothing && host.uid !== 0 ? 'modprobe nbd.' : 'modprobe nbd, or set mounts.mode=loop.';
  return warn(check, detail, next);
}

function checkPrograms(host: Host, needs: HostNeeds): Finding {
  const check = 'programs';
  const wanted = [
    ...programs,
    ...(needs.mountMode === 'kernel-nbd' ? [['qemu-nbd', 'mounts over kernel nbd'] as const] : []),
    ...(host.uid === 0 ? [] : [['fusermount3', 'FUSE without root'] as const]),
  ];
  const missing = wanted.filter(([name]) => !host.hasProgram(name));
  if (missing.length === 0) return ok(check, wanted.map(([name]) => name).join(' '));
  const packages = new Set(missing.map(([name]) => packageOf(name)));
  return failed(
    check,
    missing.map(([name, purpose]) => `no ${name}: needed for ${purpose}`).join('; '),
    `apt-get install ${[...packages].join(' ')}`,
  );
}

function checkClock(now: Date, newest: HostNeeds['newestBackup']): Finding {
  const check = 'clock';
  const shown = now.toISOString();
  const next = 'Set the clock, as with timedatectl set-ntp true. Backups are named and ordered by it.';
  if (now.getUTCFullYear() < FIRST_YEAR) return failed(check, `it says ${shown}`, next);
  if (newest && Date.parse(newest.createdAt) > now.getTime())
    return warn(check, `it says ${shown}, but ${newest.id} was made at ${newest.createdAt}`, next);
  return ok(check, shown);
}
