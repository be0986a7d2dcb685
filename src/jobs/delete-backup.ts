import type { Clock } from '../base/clock.ts';
import { SendenseError } from '../base/sendense-error.ts';
import type { Backup } from '../catalog/backups.ts';
import type { Catalog } from '../catalog/catalog.ts';
import { refreshChains } from '../catalog/record-backup.ts';
import { dependantsOf } from '../repository/chains.ts';
import { confirmRepository } from '../repository/open-repository.ts';
import { entombBackup, findManifest, removeEntombed } from '../repository/publish-backup.ts';
import { findBackup } from './find-backup.ts';
import type { Repositories } from './repositories.ts';
import type { ResourceLocks } from './resource-locks.ts';

export interface DeleteDeps {
  readonly catalog: Catalog;
  readonly clock: Clock;
  readonly repositories: Repositories;
  readonly locks: ResourceLocks;
}

export interface DeletePlan {
  /** In the order of deletion: dependants first. */
  readonly backupIds: readonly string[];
  readonly freedBytes: number;
}

/** What deleting this backup would remove. @throws BACKUP_UNKNOWN, BACKUP_AMBIGUOUS */
export function planDelete(catalog: Catalog, wanted: string): DeletePlan {
  const backup = findBackup(catalog, wanted);
  const members = catalog.backups.completed(backup.contextId, backup.repositoryId);
  const ids = [backup.id, ...dependantsOf(members, backup.id)].toReversed();
  const freed = members.filter((member) => ids.includes(member.id)).flatMap((member) => member.disks);
  return { backupIds: ids, freedBytes: freed.reduce((sum, disk) => sum + disk.fileBytes, 0) };
}

/**
 * Deletes a backup; with `cascade` also those that need it.
 * @throws BACKUP_HAS_DEPENDANTS with their ids, BACKUP_BUSY, VM_BUSY
 */
export async function deleteBackup(deps: DeleteDeps, wanted: string, cascade: boolean): Promise<DeletePlan> {
  const backup = findBackup(deps.catalog, wanted);
  const plan = planDelete(deps.catalog, backup.id);
  if (plan.backupIds.length > 1 && !cascade) {
    const dependants = plan.backupIds.filter((id) => id !== backup.id).toReversed();
    throw new SendenseError('BACKUP_HAS_DEPENDANTS', {
      backup: backup.id,
      count: dependants.length,
      dependants,
    });
  }
  const release = deps.locks.acquire('a deletion', [
    ...plan.backupIds.map((id) => ({
      resource: `backup:${id}`,
      exclusive: true,
      busy: (holder: string) => new SendenseError('BACKUP_BUSY', { backup: id, holder }),
    })),
    ...(backup.status === 'pending' || backup.status === 'running'
      ? [
          {
            resource: `vm:${backup.contextId}`,
            exclusive: true,
            busy: (job: string) => new SendenseError('VM_BUSY', { vm: backup.vmName, job }),
          },
        ]
      : []),
  ]);
  try {
    await confirmRepository(deps.repositories.byId(backup.repositoryId));
    for (const id of plan.backupIds) await deleteOne(deps, id);
  } finally {
    release();
  }
  return plan;
}

async function deleteOne(deps: DeleteDeps, id: string): Promise<void> {
  const backup = deps.catalog.backups.byId(id);
  if (!backup) return;
  const manifest = await manifestFor(deps, backup);
  if (manifest) await entombBackup(manifest.root, manifest.manifest);
  deps.catalog.transaction(() => {
    deps.catalog.backups.remove(id);
    refreshChains(deps.catalog, backup.contextId, backup.repositoryId, deps.clock.now());
  });
  if (manifest) await removeEntombed(manifest.root, manifest.manifest);
  deps.catalog.events.add({
    kind: 'backup.deleted',
    severity: 'info',
    subject: backup.vmName,
    message: `Backup ${id} was deleted.`,
    data: { backup_id: id },
  });
}

async function manifestFor(deps: DeleteDeps, backup: Backup) {
  if (backup.status !== 'completed') return null; // a failed attempt left nothing but its row
  const vm = deps.catalog.vms.byContext(backup.contextId);
  const { root } = deps.repositories.byId(backup.repositoryId);
  const manifest = vm ? await findManifest(root, vm.vmUuid, backup.id) : null;
  return manifest ? { root, manifest } : null;
}
