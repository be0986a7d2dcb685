import { createHash } from 'node:crypto';
import { SendenseError } from '../../base/sendense-error.ts';
import type { RestorePoint } from '../../restore/whole-disk/restore-request.ts';
import { findCompleted } from '../find-backup.ts';
import { findRecord } from '../mirror/mirror-deps.ts';
import { findMirrored } from '../mirror/mirror-points.ts';
import { mirrorRef, openMirrorDisks } from '../mirror/open-mirror-disks.ts';
import { readableDisks } from './read-chain.ts';
import { outputLocks, type RestoreDeps, restoreLocks, restorePointOf, sizeOfDisk } from './restore-deps.ts';

/** A restore point as it was named, found in the catalogue or in a mirror. */
export interface FoundDisk {
  readonly backupId: string;
  readonly vmName: string;
  readonly sizeBytes: number;
}

/** One disk that is held and can be read until it is released. */
export interface OpenDiskPoint extends FoundDisk {
  readonly point: RestorePoint;
  readonly release: () => void;
}

/** @throws BACKUP_UNKNOWN, BACKUP_NOT_COMPLETE, MIRROR_UNKNOWN, MIRROR_POINT_UNKNOWN */
export function findDisk(deps: RestoreDeps, wanted: string, diskIndex: number): FoundDisk {
  const inMirror = mirrorRef(wanted);
  if (inMirror === null) {
    const backup = findCompleted(deps.catalog, wanted);
    return { backupId: backup.id, vmName: backup.vmName, sizeBytes: sizeOfDisk(backup, diskIndex) };
  }
  const backup = findMirrored(deps, findRecord(deps, inMirror.mirror), inMirror.backup);
  const disk = backup.disks.find((one) => one.diskIndex === diskIndex);
  return { backupId: backup.backupId, vmName: backup.vmName, sizeBytes: disk?.sizeBytes ?? 0 };
}

/**
 * Takes the restore point and what is written to, so that neither changes meanwhile.
 * @param outputs every name of the target
 * @throws as findDisk, DISK_UNKNOWN, LAYER_…, BACKUP_BUSY, DISK_BUSY, MIRROR_…
 */
export async function openDiskPoint(
  deps: RestoreDeps,
  jobId: string,
  wanted: string,
  diskIndex: number,
  outputs: readonly string[],
): Promise<OpenDiskPoint> {
  const found = findDisk(deps, wanted, diskIndex);
  const inMirror = mirrorRef(wanted);
  if (inMirror !== null) return await openFromMirror(deps, jobId, inMirror, diskIndex, outputs);
  const backup = findCompleted(deps.catalog, wanted);
  const release = await deps.locks.acquireSoon(jobId, restoreLocks(backup, outputs));
  try {
    const [disk] = await readableDisks(deps, backup, diskIndex);
    if (disk === undefined) throw new SendenseError('INTERNAL', { detail: 'no disk' });
    return { ...found, point: restorePointOf(backup, disk), release };
  } catch (error) {
    release();
    throw error;
  }
}

async function openFromMirror(
  deps: RestoreDeps,
  jobId: string,
  { mirror, backup: wanted }: { readonly mirror: string; readonly backup: string },
  diskIndex: number,
  outputs: readonly string[],
): Promise<OpenDiskPoint> {
  const unlock = await deps.locks.acquireSoon(jobId, outputLocks(outputs));
  try {
    const opened = await openMirrorDisks(deps.mirrors, mirror, wanted, diskIndex);
    const [disk] = opened.disks;
    const { backup } = opened;
    const [name] = backup.disks.filter((one) => one.diskIndex === diskIndex);
    // the point of a mirror never changes: its name and when it was uploaded say which one it is
    const facts = JSON.stringify([mirror, name?.name, name?.uploadedAt]);
    return {
      backupId: backup.backupId,
      vmName: backup.vmName,
      sizeBytes: disk?.sizeBytes ?? 0,
      point: {
        backupId: backup.backupId,
        diskIndex,
        key: createHash('sha256').update(facts).digest('hex'),
        chain: disk?.chain ?? [],
        soundRows: async () => [],
      },
      release: () => {
        unlock();
        void opened.close();
      },
    };
  } catch (error) {
    unlock();
    throw error;
  }
}
