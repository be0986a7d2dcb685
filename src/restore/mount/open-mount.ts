import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from '../../base/logger.ts';
import { SendenseError } from '../../base/sendense-error.ts';
import type { PrivilegedWork } from '../../mountd/privileged-work.ts';
import { StorageDaemon } from '../../qemu/storage-daemon.ts';
import { mountVolumes } from '../volumes/mount-volumes.ts';
import { allSettled } from './all-settled.ts';
import { exposeFolder } from './expose-folder.ts';
import { type DiskOutcome, type MountDisk, type MountPlace, mountDisk } from './mount-disk.ts';
import { type MountMode, possibleMode, type WantedMode } from './mount-mode.ts';
import type { MountedFilesystem } from './mounted-filesystem.ts';
import { type UndoOptions, UndoStack } from './undo-stack.ts';

export interface OpenMountDeps {
  readonly logger: Logger;
  /** Sockets and overlays go to `mounts/<mountId>` in it. */
  readonly runFolder: string;
  /** File systems are mounted at `<mountId>/<key>` in it. */
  readonly mountFolder: string;
  readonly work: PrivilegedWork;
  /** Our own program that serves logical volumes. */
  readonly volumesFile: string;
  /** False: `work` can do nothing but what any user may. */
  readonly hasPrivileges: boolean;
  /** Used when the request names none. */
  readonly mode: WantedMode;
  /** Most bytes that journal replay may write, over all disks of one mount. */
  readonly overlayLimitBytes: number;
}

export interface MountRequest {
  readonly mountId: string;
  readonly disks: readonly MountDisk[];
  readonly mode?: WantedMode | undefined;
  /** Where the operator also wants to see the files; null: nowhere. */
  readonly exposeAt: string | null;
}

/** A restore point that is mounted until it is closed. */
export interface OpenMount extends AsyncDisposable {
  readonly mountId: string;
  readonly mountPath: string;
  readonly mode: MountMode;
  readonly filesystems: readonly MountedFilesystem[];
  /** True when the content of at least one file system may be incomplete. */
  readonly degraded: boolean;
  /** True once a program below it died: every read fails, it can only be closed. */
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
  const mode = possibleMode(request.mode ?? deps.mode, deps.hasPrivileges);
  const state = { isLost: false };
  const onLost = () => {
    state.isLost = true;
  };
  // the loop devices hold the files of the dead daemon also after it was started again
  const daemon = new StorageDaemon({ logger: deps.logger, folder: runFolder, onRestart: onLost });
  undo.push('stop the storage daemon', () => daemon.stop());
  await daemon.start();
  const place: MountPlace = {
    session: mountId,
    folder: runFolder,
    daemon,
    work: deps.work,
    mode,
    limitBytes: deps.overlayLimitBytes / Math.max(1, request.disks.length),
    onLost,
  };
  const outcomes = await allSettled(request.disks.map((disk) => mountDisk(place, disk, undo)));
  const filesystems = await withVolumes(deps, place, outcomes, undo);
  if (!filesystems.some((filesystem) => filesystem.status === 'mounted')) throw nothingMounted(filesystems);
  if (exposeAt !== null)
    await exposeFolder({ work: deps.work, session: mountId, runFolder }, undo, exposeAt, filesystems);

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
    mode,
    filesystems,
    degraded,
    isLost: () => state.isLost,
    close,
    [Symbol.asyncDispose]: () => close({ force: true }),
  };
}

/** Slices that belong to a volume group, and the volumes put together from them, stand after the others. */
async function withVolumes(
  deps: OpenMountDeps,
  place: MountPlace,
  outcomes: readonly DiskOutcome[],
  undo: UndoStack,
): Promise<MountedFilesystem[]> {
  const isMember = ({ status }: MountedFilesystem) => status === 'container';
  const members = outcomes.flatMap(({ disk, filesystems }) =>
    filesystems.filter(isMember).map((filesystem) => ({ filesystem, disk })),
  );
  const others = outcomes.flatMap(({ filesystems }) => filesystems.filter((one) => !isMember(one)));
  return [...others, ...(await mountVolumes(deps, place, members, undo))];
}

function nothingMounted(filesystems: readonly MountedFilesystem[]): SendenseError {
  const reasons = filesystems.map(
    ({ key, status, detail, fsType }) => `${key}: ${detail ?? fsType ?? status}`,
  );
  return new SendenseError('MOUNT_FAILED', {
    detail: reasons.length === 0 ? 'it has no disks' : reasons.join('; '),
  });
}
