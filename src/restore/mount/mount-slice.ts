import { stat } from 'node:fs/promises';
import type { PrivilegedWork } from '../../mountd/privileged-work.ts';
import type { ProbedSlice } from '../disk/probe-disk.ts';
import type { ShownDisk } from '../disk/shown-disk.ts';
import { beforeKernelMount } from '../filesystem/before-kernel-mount.ts';
import { fuseProgramFor } from '../filesystem/fuse-programs.ts';
import { mountByFuse } from '../filesystem/mount-by-fuse.ts';
import { uncleanNtfs } from '../filesystem/unclean-ntfs.ts';
import type { FilesystemStatus } from './mounted-filesystem.ts';
import { UndoStack } from './undo-stack.ts';

/** The part of a `MountedFilesystem` that the attempt to mount decides. */
export interface MountOutcome {
  readonly status: FilesystemStatus;
  readonly mountPath: string | null;
  readonly deviceNumber: number | null;
  /** What reads it: `kernel`, or a program of user space. */
  readonly reader: string | null;
  readonly degraded: string | null;
  readonly detail: string | null;
}

export interface SliceDeps {
  readonly work: PrivilegedWork;
  readonly session: string;
  /** The session's image folder. */
  readonly folder: string;
  /** False: the kernel is kept away from the guest's structures. */
  readonly byKernel: boolean;
  /** Told when a program that shows a file system ended. */
  readonly onLost: () => void;
}

const notMounted = (status: FilesystemStatus, detail: string | null): MountOutcome => ({
  status,
  mountPath: null,
  deviceNumber: null,
  reader: null,
  degraded: null,
  detail,
});

/** What only a kernel with device mapper and the like can put together; a micro-VM has one. */
const needsVm: Readonly<Record<string, string>> = {
  crypto_LUKS: 'it is encrypted: mount with --mode vm and --passphrase-file',
  BitLocker: 'it is encrypted by BitLocker, which nothing here opens',
  linux_raid_member: 'it is part of a RAID: mount with --mode vm',
  zfs_member: 'ZFS is not mounted by this version',
  bcache: 'bcache is not mounted by this version',
};

/**
 * Mounts one slice, if it is of a kind that may be mounted. What cannot be mounted is an answer, not an error.
 * @param disk above its overlay
 */
export async function mountSlice(
  deps: SliceDeps,
  undo: UndoStack,
  disk: ShownDisk,
  slice: ProbedSlice,
  key: string,
): Promise<MountOutcome> {
  const { fsType } = slice.content;
  if (slice.isAmbivalent) return notMounted('unsupported', 'several signatures contradict each other');
  if (fsType === null) return notMounted('empty', 'no known signature');
  if (fsType === 'swap' || fsType === 'swsuspend') return notMounted('swap', null);
  if (fsType === 'LVM2_member') return notMounted('container', null);
  const impossible = needsVm[fsType];
  if (impossible !== undefined) return notMounted('unsupported', impossible);
  const own = new UndoStack();
  undo.push(`take down ${key}`, (options) => own.unwind(options));
  const outcome = await tryBoth(deps, own, disk, slice, key, fsType);
  if (outcome.status !== 'mounted') await own.unwind({ force: false });
  return outcome;
}

async function tryBoth(
  deps: SliceDeps,
  undo: UndoStack,
  disk: ShownDisk,
  slice: ProbedSlice,
  key: string,
  fsType: string,
): Promise<MountOutcome> {
  let refusal = `${fsType} is not mounted by this version`;
  if (deps.byKernel) {
    const outcome = await byKernel(deps, undo, disk, slice, key, fsType);
    // what the kernel knows and refuses is broken, and no program should guess
    if (outcome.status !== 'unsupported') return outcome;
    refusal = outcome.detail ?? refusal;
    await undo.unwind({ force: false });
  }
  const program = fuseProgramFor(fsType);
  if (program === null) {
    const hint = deps.byKernel ? '' : ', and no program of user space here reads it: modes loop and vm do';
    return notMounted('unsupported', `${refusal}${hint}`);
  }
  const file = await disk.sliceFile(undo, slice);
  const place = { session: deps.session, key };
  const degraded = fsType === 'ntfs' ? await uncleanNtfs(file) : null;
  const mount = await mountByFuse(deps, undo, program, file, place);
  if (typeof mount === 'string') return notMounted('failed', mount);
  return await mounted(mount.path, program.tool, mount.degraded ?? degraded);
}

async function byKernel(
  { work, session }: SliceDeps,
  undo: UndoStack,
  disk: ShownDisk,
  slice: ProbedSlice,
  key: string,
  fsType: string,
): Promise<MountOutcome> {
  const place = { session, key };
  const device = await disk.sliceDevice(undo, slice);
  const objection = await beforeKernelMount(fsType, slice.content.uuid, () => disk.sliceFile(undo, slice));
  if (objection !== null) return notMounted('failed', objection);
  const first = await work.mount({ ...place, device, fsType, replay: true });
  if (first.path === null && /unknown filesystem type/.test(first.refusal ?? ''))
    return notMounted('unsupported', `this kernel has no ${fsType}, mode vm has`);
  const second = first.path === null ? await work.mount({ ...place, device, fsType, replay: false }) : first;
  if (second.path === null) return notMounted('failed', first.refusal);
  undo.push(`unmount ${key}`, ({ force }) => work.clearPlace(place, force));
  return await mounted(second.path, 'kernel', first.path === null ? 'journal not replayed' : null);
}

async function mounted(mountPath: string, reader: string, degraded: string | null): Promise<MountOutcome> {
  const deviceNumber = (await stat(mountPath)).dev;
  return { status: 'mounted', mountPath, deviceNumber, reader, degraded, detail: null };
}
