import { packageOf } from '../../base/process/tool-failure.ts';
import type { VmAvailability } from '../../restore/vm/vm-image.ts';
import { type Finding, ok, warn } from './finding.ts';

/** What decides how restore points can be mounted. */
export interface MountMeans {
  readonly uid: number;
  /** A sendense-mountd answers. */
  readonly hasMountd: boolean;
  /** `/etc/fuse.conf` lets users show FUSE files to root. */
  readonly allowsOther: boolean;
  readonly vm: VmAvailability;
  hasProgram(name: string): boolean;
}

/** Programs that read file systems which the kernel should or can not read. */
const readers: readonly (readonly [name: string, what: string])[] = [
  ['fuse2fs', 'ext without the kernel'],
  ['ntfs-3g', 'NTFS'],
  ['pvck', 'LVM'],
  ['fuseiso', 'ISO 9660 where the kernel has none'],
  ['squashfuse', 'squashfs where the kernel has none'],
];

export function checkMounts(means: MountMeans): Finding[] {
  return [checkMountd(means), checkReaders(means), checkVm(means.vm)];
}

function checkMountd({ uid, hasMountd, allowsOther }: MountMeans): Finding {
  const check = 'mountd';
  if (!hasMountd) {
    const detail = `uid ${uid}, and no sendense-mountd answers: restore points are mounted by programs of user space only`;
    return warn(check, detail, 'Start sendense-mountd as root, with the same --home.');
  }
  if (uid !== 0 && !allowsOther) {
    const detail = 'mountd cannot read what the storage daemon of another user shows';
    return warn(check, detail, 'Write user_allow_other into /etc/fuse.conf.');
  }
  return ok(check, uid === 0 ? 'started by the daemon' : 'it answers');
}

function checkReaders({ hasProgram }: MountMeans): Finding {
  const check = 'file system readers';
  const missing = readers.filter(([name]) => !hasProgram(name));
  if (missing.length === 0) return ok(check, readers.map(([name]) => name).join(' '));
  const packages = missing.map(([name]) => packageOf(name));
  const detail = missing.map(([name, what]) => `no ${name}: ${what} cannot be mounted`).join('; ');
  return warn(check, detail, `apt-get install ${packages.join(' ')}`);
}

function checkVm(vm: VmAvailability): Finding {
  const check = 'mount mode vm';
  if (vm.isAvailable) return ok(check, `Linux ${vm.image.version}`);
  return warn(check, `${vm.reason}: LUKS, RAID and thin volumes cannot be mounted`, `Run: ${vm.action}`);
}
