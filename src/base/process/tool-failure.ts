import { ExecaError } from 'execa';
import { SendenseError } from '../sendense-error.ts';

/** Which Debian package brings a tool, where it is not its namesake. */
const packages: Readonly<Record<string, string>> = {
  'qemu-img': 'qemu-utils',
  'qemu-nbd': 'qemu-utils',
  'qemu-storage-daemon': 'qemu-system-common',
  sfdisk: 'fdisk',
  blkid: 'util-linux',
  losetup: 'mount',
  umount: 'mount',
  fusermount3: 'fuse3',
  ss: 'iproute2',
  'mount.exfat-fuse': 'exfat-fuse',
  'ntfs-3g.probe': 'ntfs-3g',
  ntfsinfo: 'ntfs-3g',
  btrfstune: 'btrfs-progs',
  pvck: 'lvm2',
  'qemu-system-x86_64': 'qemu-system-x86',
  virsh: 'libvirt-clients',
  ssh: 'openssh-client',
  '/usr/sbin/sshd': 'openssh-server',
  'ssh-keygen': 'openssh-client',
};
export const packageOf = (tool: string): string => packages[tool] ?? tool;

export const STDERR_TAIL_CHARACTERS = 2_000;
/** What a tool gets between TERM and KILL. */
export const KILL_DELAY_MS = 5_000;

/** What decides how a failure is told. */
export type FailureContext = { readonly timeoutMs?: number; readonly signal?: AbortSignal };

/** What a tool that could not be started, failed or was ended is told as. */
export function failure(tool: string, error: unknown, options: FailureContext): SendenseError {
  if (!(error instanceof ExecaError)) return new SendenseError('INTERNAL', { detail: String(error) }, error);
  if (error.code === 'ENOENT') {
    return new SendenseError('TOOL_MISSING', { tool, install: `apt-get install ${packageOf(tool)}` }, error);
  }
  if (options.signal?.aborted) return new SendenseError('CANCELLED', {}, error);
  const outcome =
    error.signal === undefined ? `exit code ${error.exitCode ?? '?'}` : `signal ${error.signal}`;
  // execa only repeats the command line of a program that ended
  const hasEnded = error.signal !== undefined || error.exitCode !== undefined;
  const silence = hasEnded ? 'it said nothing' : error.shortMessage;
  const tail = String(error.stderr ?? '')
    .trim()
    .slice(-STDERR_TAIL_CHARACTERS);
  return new SendenseError('TOOL_FAILED', { tool, outcome, detail: tail || silence }, error);
}
