import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from '../../base/logger.ts';
import { SendenseError } from '../../base/sendense-error.ts';
import { StorageDaemon } from '../../qemu/storage-daemon.ts';
import { readChainSize } from '../disk/chain-size.ts';
import { type MountMode, type ShowDisk, showByFuse } from '../disk/disk-device.ts';
import { kernelHasNbd, showByKernelNbd } from '../disk/nbd-device.ts';
import { createOverlay } from '../disk/overlay.ts';
import { probeDisk } from '../disk/probe-disk.ts';
import { exposeFolder, removeEmpty } from './expose-folder.ts';
import { mountSlice } from './mount-slice.ts';
import { filesystemKey, type MountedFilesystem } from './mounted-filesystem.ts';
import { type UndoOptions, UndoStack } from './undo-stack.ts';

export interface OpenMountDeps {
  readonly logger: Logger;
  /** Sockets and overlays go to `mounts/<mountId>` in it. */
  readonly runFolder: string;
  /** File systems are mounted at `<mountId>/<key>` in it. */
  readonly mountFolder: string;
  readonly mode: MountMode;
  /** Most bytes that journal replay may write, over all disks of one mount. */
  readonly overlayLimitBytes: number;
}

export interface MountDisk {
  readonly diskIndex: number;
  /** Absolute paths, newest layer first, the full last. */
  readonly chain: readonly string[];
}

export interface MountRequest {
  readonly mountId: string;
  readonly disks: readonly MountDisk[];
  /** Where the operator also wants to see the files; null: nowhere. */
  readonly exposeAt: string | null;
}

/** A restore point that is mounted until it is closed. */
export interface OpenMount extends AsyncDisposable {
  readonly mountId: string;
  readonly mountPath: string;
  readonly filesystems: readonly MountedFilesystem[];
  /** True when the content of at least one file system may be incomplete. */
  readonly degraded: boolean;
  /** True once its storage daemon died: every read fails, it can only be closed. */
  isLost(): boolean;
  /**
   * Takes everything down; repeating it is fine, also after MOUNT_BUSY.
   * @throws MOUNT_BUSY while a program uses a file in it, unless forced
   */
  close(options?: UndoOptions): Promise<void>;
}

/**
 * Mounts a restore point read-only above an overlay that takes what journal replay writes.
 * @throws MOUNT_FAILED when nothing in it can be mounted, LAYER_REFUSED, CHAIN_PARENT_MISSING, OUTPUT_INVALID,
 *   PRIVILEGE_MISSING, TOOL_FAILED; everything is cleaned up then
 */
export async function openMount(deps: OpenMountDeps, request: MountRequest): Promise<OpenMount> {
  if (process.getuid?.() !== 0)
    throw new SendenseError('PRIVILEGE_MISSING', { what: 'Mounting a restore point' });
  const undo = new UndoStack();
  try {
    return await setUp(deps, request, undo);
  } catch (error) {
    await undo.unwindAll(deps.logger);
    throw error;
  }
}

async function setUp(deps: OpenMountDeps, request: MountRequest, undo: UndoStack): Promise<OpenMount> {
  const { mountId, exposeAt } = request;
  const runFolder = join(deps.runFolder, 'mounts', mountId);
  const mountPath = join(deps.mountFolder, mountId);
  await mkdir(runFolder, { recursive: true, mode: 0o700 });
  undo.push(`remove ${runFolder}`, () => rm(runFolder, { recursive: true, force: true }));
  // the guest's permissions mean nothing here: nobody but us may look in
  await mkdir(mountPath, { recursive: true, mode: 0o700 });
  undo.push(`remove ${mountPath}`, () => removeEmpty(mountPath));
  const state = { isLost: false };
  const showDisk = await chooseShowDisk(deps, runFolder, undo, state);
  const limitBytes = deps.overlayLimitBytes / Math.max(1, request.disks.length);
  const place = { runFolder, mountPath, limitBytes };
  const filesystems = (
    await allSettled(request.disks.map((disk) => mountDisk(place, disk, showDisk, undo)))
  ).flat();
  if (!filesystems.some((filesystem) => filesystem.status === 'mounted')) throw nothingMounted(filesystems);
  if (exposeAt !== null) await exposeFolder(undo, runFolder, exposeAt, filesystems);

  let closing: Promise<void> | null = null;
  const close = (options: UndoOptions = { force: false }): Promise<void> => {
    closing ??= undo.unwind(options).finally(() => {
      closing = null;
    });
    return closing;
  };
  const degraded = filesystems.some((filesystem) => filesystem.degraded !== null);
  return {
    mountId,
    mountPath,
    filesystems,
    degraded,
    isLost: () => state.isLost,
    close,
    [Symbol.asyncDispose]: () => close({ force: true }),
  };
}

async function chooseShowDisk(
  deps: OpenMountDeps,
  folder: string,
  undo: UndoStack,
  state: { isLost: boolean },
): Promise<ShowDisk> {
  if (deps.mode === 'kernel-nbd') {
    if (kernelHasNbd()) return showByKernelNbd(folder);
    deps.logger.warn('the kernel has no nbd module; mounting by FUSE and loop instead');
  }
  const onRestart = () => {
    // the loop devices still hold the files of the dead daemon
    state.isLost = true;
  };
  const daemon = new StorageDaemon({ logger: deps.logger, folder, onRestart });
  undo.push('stop the storage daemon', () => daemon.stop());
  await daemon.start();
  return showByFuse(daemon, folder);
}

interface MountPlace {
  readonly runFolder: string;
  readonly mountPath: string;
  readonly limitBytes: number;
}

async function mountDisk(
  place: MountPlace,
  disk: MountDisk,
  showDisk: ShowDisk,
  undo: UndoStack,
): Promise<MountedFilesystem[]> {
  const { diskIndex, chain } = disk;
  const sizeBytes = await readChainSize(chain);
  const overlayPath = join(place.runFolder, `disk${diskIndex}.qcow2`);
  const overlay = await createOverlay(overlayPath, chain, sizeBytes, place.limitBytes);
  const path = await showDisk(undo, diskIndex, overlay);
  const slices = await probeDisk(path, sizeBytes);
  return await allSettled(
    slices.map(async (slice): Promise<MountedFilesystem> => {
      const { partitionNumber, offsetBytes, sizeBytes: sliceBytes, content } = slice;
      const key = filesystemKey(diskIndex, partitionNumber);
      const outcome = await mountSlice(undo, path, slice, join(place.mountPath, key));
      return { key, diskIndex, partitionNumber, offsetBytes, sizeBytes: sliceBytes, ...content, ...outcome };
    }),
  );
}

/** Like `Promise.all`, but nothing is still being set up when it fails. */
async function allSettled<T>(promises: readonly Promise<T>[]): Promise<T[]> {
  await Promise.allSettled(promises);
  return await Promise.all(promises);
}

function nothingMounted(filesystems: readonly MountedFilesystem[]): SendenseError {
  const reasons = filesystems.map(
    ({ key, status, detail, fsType }) => `${key}: ${detail ?? fsType ?? status}`,
  );
  return new SendenseError('MOUNT_FAILED', {
    detail: reasons.length === 0 ? 'it has no disks' : reasons.join('; '),
  });
}
