import { StorageDaemon } from '../../qemu/storage-daemon.ts';
import { mountVolumes } from '../volumes/mount-volumes.ts';
import { allSettled } from './all-settled.ts';
import { type DiskOutcome, type MountPlace, mountDisk } from './mount-disk.ts';
import type { MountMode } from './mount-mode.ts';
import type { OpenMountDeps, SessionRequest } from './mount-request.ts';
import type { MountedDisks } from './mounted-disks.ts';
import type { MountedFilesystem } from './mounted-filesystem.ts';
import type { UndoStack } from './undo-stack.ts';

/** Mounts what this machine can read by itself. @throws LAYER_REFUSED, CHAIN_PARENT_MISSING, MOUNTD_…, TOOL_FAILED */
export async function mountOnHost(
  deps: OpenMountDeps,
  request: SessionRequest,
  mode: MountMode,
  undo: UndoStack,
): Promise<MountedDisks> {
  const { mountId: session, folder, disks } = request;
  let isLost = false;
  const onLost = () => {
    isLost = true;
  };
  // one that died is not started again: loop devices would still hold its files, and layers may have been rewritten
  const daemon = new StorageDaemon({ logger: deps.logger, folder, isRestarted: false, onRestart: onLost });
  undo.push('stop the storage daemon', () => daemon.stop());
  await daemon.start();
  const limitBytes = deps.overlayLimitBytes / Math.max(1, disks.length);
  const place: MountPlace = { session, folder, daemon, work: deps.work, mode, limitBytes, onLost };
  const outcomes = await allSettled(disks.map((disk) => mountDisk(place, disk, undo)));
  const filesystems = await withVolumes(deps, place, outcomes, undo);
  const shown = filesystems.flatMap(({ key, status }) =>
    status === 'mounted' ? [{ session, key, folder: key }] : [],
  );
  return { filesystems, shown, isLost: () => isLost };
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
