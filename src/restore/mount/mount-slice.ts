import { existsSync } from 'node:fs';
import { mkdir, rmdir, stat } from 'node:fs/promises';
import { run } from '../../base/process.ts';
import { hasCode, messageOf } from '../../base/sendense-error.ts';
import { attachLoop, detachLoop } from '../disk/loop-device.ts';
import type { ProbedSlice } from '../disk/probe-disk.ts';
import { type MountPlan, mountPlanFor } from './mount-options.ts';
import type { FilesystemStatus } from './mounted-filesystem.ts';
import { UndoStack } from './undo-stack.ts';
import { unmount } from './unmount.ts';

/** The part of a `MountedFilesystem` that the attempt to mount decides. */
export interface MountOutcome {
  readonly status: FilesystemStatus;
  readonly mountPath: string | null;
  readonly deviceNumber: number | null;
  readonly degraded: string | null;
  readonly detail: string | null;
}

const notMounted = (status: FilesystemStatus, detail: string | null): MountOutcome => ({
  status,
  mountPath: null,
  deviceNumber: null,
  degraded: null,
  detail,
});

/**
 * Mounts one slice, if it is of a kind that may be mounted. What cannot be mounted is an answer, not an error.
 * @param diskPath the whole disk, above its overlay
 * @param mountPath folder to make and mount at
 */
export async function mountSlice(
  undo: UndoStack,
  diskPath: string,
  slice: ProbedSlice,
  mountPath: string,
): Promise<MountOutcome> {
  const { fsType, uuid } = slice.content;
  if (slice.isAmbivalent) return notMounted('unsupported', 'several signatures contradict each other');
  if (fsType === null) return notMounted('empty', 'no known signature');
  if (fsType === 'swap' || fsType === 'swsuspend') return notMounted('swap', null);
  const plan = mountPlanFor(fsType);
  if (plan === null) return notMounted('unsupported', `${fsType} is not mounted by this version`);
  // the kernel tells btrfs devices apart by UUID alone; a second one would mix with the first
  if (fsType === 'btrfs' && existsSync(`/sys/fs/btrfs/${uuid}`)) {
    return notMounted('failed', 'a btrfs of the same UUID is mounted already');
  }
  const own = new UndoStack();
  undo.push(`take down ${mountPath}`, (options) => own.unwind(options));
  const loop = await attachLoop(diskPath, slice.offsetBytes, slice.sizeBytes);
  own.push(`detach ${loop}`, (options) => detachLoop(loop, options));
  await mkdir(mountPath, { recursive: true, mode: 0o700 });
  own.push(`remove ${mountPath}`, () => rmdir(mountPath));
  const outcome = await tryPlan(plan, loop, mountPath);
  if (outcome.status === 'mounted')
    own.push(`unmount ${mountPath}`, (options) => unmount(mountPath, options));
  else await own.unwind({ force: false });
  return outcome;
}

async function tryPlan(plan: MountPlan, loop: string, mountPath: string): Promise<MountOutcome> {
  const first = await mount(plan.driver, plan.options, loop, mountPath);
  if (first === null) return await mounted(mountPath, null);
  if (/unknown filesystem type/.test(first))
    return notMounted('unsupported', `this kernel has no ${plan.driver}`);
  if (plan.withoutReplay === null) return notMounted('failed', first);
  const second = await mount(plan.driver, plan.withoutReplay, loop, mountPath);
  return second === null ? await mounted(mountPath, 'journal not replayed') : notMounted('failed', first);
}

async function mounted(mountPath: string, degraded: string | null): Promise<MountOutcome> {
  return { status: 'mounted', mountPath, deviceNumber: (await stat(mountPath)).dev, degraded, detail: null };
}

/** Returns what mount(8) said when it failed, else null. `-i`: no helper program named after the type is run. */
async function mount(
  driver: string,
  options: string,
  loop: string,
  mountPath: string,
): Promise<string | null> {
  try {
    await run('mount', ['-i', '-t', driver, '-o', options, loop, mountPath]);
    return null;
  } catch (error) {
    if (!hasCode(error, 'TOOL_FAILED')) throw error;
    return messageOf(error);
  }
}
