import { existsSync } from 'node:fs';
import { kernelHasNbd } from '../../mountd/privileged/nbd-work.ts';

/**
 * Who reads the guest's structures, and how its disks are shown:
 * `loop` the kernel, over FUSE files and loop devices; `kernel-nbd` the kernel, over `/dev/nbd`; `userspace` programs
 * without privileges; `vm` the kernel of a small virtual machine.
 */
export const mountModes = ['loop', 'userspace', 'kernel-nbd', 'vm'] as const;
export type MountMode = (typeof mountModes)[number];
export type WantedMode = MountMode | 'auto';

/** What this machine can do. @throws never */
export function possibleMode(wanted: WantedMode, hasPrivileges: boolean): MountMode {
  if (wanted === 'vm' || wanted === 'userspace') return wanted;
  if (!hasPrivileges) return 'userspace';
  if (wanted === 'kernel-nbd' && kernelHasNbd()) return 'kernel-nbd';
  return existsSync('/dev/loop-control') ? 'loop' : 'userspace';
}
