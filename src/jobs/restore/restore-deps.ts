import { createHash } from 'node:crypto';
import { SendenseError } from '../../base/sendense-error.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import type { Backup } from '../../catalog/points/backup-rows.ts';
import type { RestorePoint, RestoreTools } from '../../restore/whole-disk/restore-request.ts';
import type { JobEngine } from '../job-engine.ts';
import type { MirrorDeps } from '../mirror/mirror-deps.ts';
import type { Repositories } from '../repository/repositories.ts';
import { chainResource, type LockRequest, type ResourceLocks } from '../resource-locks.ts';
import type { ReadableDisk } from './read-chain.ts';

export interface RestoreDeps {
  readonly catalog: Catalog;
  readonly engine: JobEngine;
  readonly locks: ResourceLocks;
  readonly mirrors: MirrorDeps;
  readonly repositories: Repositories;
  /** Folders of the appliance itself, never an output. */
  readonly ownFolders: readonly string[];
  readonly restoreTools: RestoreTools;
}

/** What no restore may write to. */
export const forbiddenPlaces = (deps: Pick<RestoreDeps, 'ownFolders' | 'repositories'>): string[] => [
  ...deps.ownFolders,
  ...deps.repositories.all().map((repository) => repository.root),
];

/** What a restore holds: the layers it reads, its restore point, and every disk it writes to. */
export function restoreLocks(backup: Backup, outputs: readonly string[]): LockRequest[] {
  const busy = (holder: string) => new SendenseError('BACKUP_BUSY', { backup: backup.id, holder });
  return [
    { resource: chainResource(backup.repositoryId, backup.contextId), exclusive: false, busy },
    { resource: `backup:${backup.id}`, exclusive: false, busy },
    ...outputLocks(outputs),
  ];
}

/** A disk that is being backed up must not be overwritten meanwhile. */
export const outputLocks = (outputs: readonly string[]): LockRequest[] =>
  outputs.map((path) => ({
    resource: `disk:${path}`,
    exclusive: true,
    busy: (holder) => new SendenseError('DISK_BUSY', { path, holder }),
  }));

export function restorePointOf(backup: Backup, disk: ReadableDisk): RestorePoint {
  const facts = [backup.contextId, backup.repositoryId, backup.id, backup.jobId, backup.createdAt];
  return {
    backupId: backup.id,
    diskIndex: disk.diskIndex,
    key: createHash('sha256')
      .update(JSON.stringify([...facts, disk.diskIndex]))
      .digest('hex'),
    chain: disk.chain,
    soundRows: disk.soundRows,
  };
}

export const sizeOfDisk = (backup: Backup, diskIndex: number): number =>
  backup.disks.find((disk) => disk.diskIndex === diskIndex)?.sizeBytes ?? 0;
