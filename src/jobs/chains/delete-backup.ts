import type { Clock } from '../../base/clock.ts';
import { SendenseError } from '../../base/sendense-error.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import type { Backup } from '../../catalog/points/backup-rows.ts';
import { chainMembers } from '../../catalog/points/record-backup.ts';
import { dependantsOf } from '../../repository/layers/chains.ts';
import { confirmWritable } from '../../repository/open-repository.ts';
import { findDoomed } from '../find-backup.ts';
import type { Repositories } from '../repository/repositories.ts';
import type { LockRequest, ResourceLocks } from '../resource-locks.ts';
import type { ChainsChanged } from './chain-keeper.ts';
import { deletionLocks } from './deletion-locks.ts';
import { livePins } from './pins.ts';
import { releaseLayers, retireBackups } from './retire-backup.ts';

export interface DeleteDeps {
  readonly catalog: Catalog;
  readonly clock: Clock;
  readonly repositories: Repositories;
  readonly locks: ResourceLocks;
  readonly chainsChanged: ChainsChanged;
}

export interface DeleteOptions {
  /** Also those that need it. */
  readonly cascade: boolean;
  /** Only this one: what others need of it is kept and merged into them. */
  readonly merge: boolean;
  /** Also when it is pinned. */
  readonly force: boolean;
}

export interface DeletePlan {
  /** In the order of deletion: dependants first. */
  readonly backupIds: readonly string[];
  /** That stay and need layers of what is deleted. */
  readonly keptDependants: readonly string[];
  readonly freedBytes: number;
}

/**
 * What deleting this backup would remove. With `merge` the bytes are an upper limit: what the dependants still show
 * of them stays.
 * @throws BACKUP_UNKNOWN, BACKUP_AMBIGUOUS
 */
export function planDelete(catalog: Catalog, wanted: string, options: DeleteOptions): DeletePlan {
  const backup = findDoomed(catalog, wanted);
  const members = chainMembers(catalog, backup.contextId, backup.repositoryId);
  const dependants = dependantsOf(members, backup.id);
  const ids = options.merge ? [backup.id] : [backup.id, ...dependants].toReversed();
  const freed = members.filter((member) => ids.includes(member.id)).flatMap((member) => member.disks);
  return {
    backupIds: ids,
    keptDependants: options.merge ? dependants : [],
    freedBytes: freed.reduce((sum, disk) => sum + disk.fileBytes, 0),
  };
}

/**
 * Deletes a backup. Work in the background on the same chain gives way.
 * @throws BACKUP_HAS_DEPENDANTS with their ids, BACKUP_PINNED, BACKUP_BUSY, VM_BUSY, REPOSITORY_UNAVAILABLE
 */
export async function deleteBackup(
  deps: DeleteDeps,
  wanted: string,
  options: DeleteOptions,
): Promise<DeletePlan> {
  const { catalog } = deps;
  const backup = findDoomed(catalog, wanted);
  const plan = planDelete(catalog, backup.id, options);
  if (plan.backupIds.length > 1 && !options.cascade) {
    const dependants = plan.backupIds.filter((id) => id !== backup.id).toReversed();
    throw new SendenseError('BACKUP_HAS_DEPENDANTS', {
      backup: backup.id,
      count: dependants.length,
      dependants,
    });
  }
  const refuseAllPinned = () => {
    if (!options.force) for (const id of plan.backupIds) refusePinned(deps, id);
  };
  refuseAllPinned();
  const release = await deps.locks.acquireSoon('a deletion', locksOf(backup, plan.backupIds));
  try {
    refuseAllPinned(); // again under the locks: it may have waited for a merge to give way
    if (backup.status === 'completed') await deleteLayers(deps, backup, plan.backupIds);
    else catalog.backups.remove(backup.id); // a failed attempt left nothing but its row
  } finally {
    release();
  }
  for (const id of plan.backupIds)
    catalog.events.add({
      kind: 'backup.deleted',
      severity: 'info',
      subject: backup.vmName,
      message: `Backup ${id} was deleted.`,
      data: { backup_id: id },
    });
  deps.chainsChanged(backup.contextId, backup.repositoryId);
  return plan;
}

async function deleteLayers(deps: DeleteDeps, backup: Backup, ids: readonly string[]): Promise<void> {
  const repository = deps.repositories.byId(backup.repositoryId);
  await confirmWritable(repository);
  const vm = deps.catalog.vms.byContext(backup.contextId);
  if (!vm) throw new SendenseError('VM_UNKNOWN', { vm: backup.vmName });
  await retireBackups(deps, { vm, repository }, ids);
  await releaseLayers(deps, { vm, repository });
}

function refusePinned(deps: DeleteDeps, backupId: string): void {
  const [pin] = livePins(deps.catalog.pins.ofBackup(backupId), deps.clock.now());
  if (!pin) return;
  const until = pin.until === null ? 'for ever' : `until ${pin.until}`;
  throw new SendenseError('BACKUP_PINNED', { backup: backupId, reason: pin.reason, until });
}

/** Nobody reads these backups, nobody adds to or merges their chain. */
function locksOf(backup: Backup, ids: readonly string[]): LockRequest[] {
  const alone = (resource: string, busy: LockRequest['busy']) => ({ resource, exclusive: true, busy });
  const isRunning = backup.status === 'pending' || backup.status === 'running';
  return [
    ...ids.map((id) =>
      alone(`backup:${id}`, (holder) => new SendenseError('BACKUP_BUSY', { backup: id, holder })),
    ),
    ...(isRunning
      ? [
          alone(
            `vm:${backup.contextId}`,
            (job: string) => new SendenseError('VM_BUSY', { vm: backup.vmName, job }),
          ),
        ]
      : deletionLocks(backup.repositoryId, backup.contextId, backup.vmName)),
  ];
}
