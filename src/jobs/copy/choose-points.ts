import { copyIdFor, originalOf } from '../../base/ids.ts';
import { SendenseError } from '../../base/sendense-error.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import type { Backup } from '../../catalog/points/backup-rows.ts';
import type { Repository } from '../../repository/open-repository.ts';
import { findCompleted, findVm } from '../find-backup.ts';
import type { Repositories } from '../repository/repositories.ts';

/** What is to be copied. */
export type CopySelection =
  | { readonly kind: 'backup'; readonly backup: string }
  /** Restore points newer than the newest that was copied there; with `isMissing` also older ones that are not there. */
  | { readonly kind: 'vm'; readonly vmName: string; readonly isMissing: boolean }
  | { readonly kind: 'all'; readonly isMissing: boolean };

interface ChooseDeps {
  readonly catalog: Catalog;
  readonly repositories: Repositories;
}

/** The one of these that is in the target already: the original itself, or its copy. */
export function inTarget(catalog: Catalog, backupId: string, target: Repository): Backup | null {
  for (const id of [originalOf(backupId), copyIdFor(backupId, target.id)]) {
    const found = catalog.backups.byId(id);
    if (found?.repositoryId === target.id && found.status === 'completed') return found;
  }
  return null;
}

/**
 * The restore points to copy, oldest first, so that each finds its parent there.
 * @throws BACKUP_UNKNOWN, BACKUP_NOT_COMPLETE, VM_UNKNOWN, REQUEST_INVALID
 */
export function choosePoints(deps: ChooseDeps, selection: CopySelection, target: Repository): Backup[] {
  const { catalog } = deps;
  if (selection.kind === 'backup') {
    const backup = findCompleted(catalog, selection.backup);
    if (backup.repositoryId === target.id)
      throw new SendenseError('REQUEST_INVALID', { detail: `${backup.id} lies in "${target.name}" already` });
    return [backup];
  }
  const vms = selection.kind === 'vm' ? [findVm(catalog, selection.vmName)] : catalog.vms.all();
  return vms.flatMap(({ contextId }) => pointsOf(deps, contextId, selection.isMissing, target));
}

function pointsOf(deps: ChooseDeps, contextId: string, isMissing: boolean, target: Repository): Backup[] {
  const { catalog, repositories } = deps;
  // what retention removed there is not brought again and again
  const newest = isMissing ? null : catalog.backups.newestCopy(contextId, target.id);
  const chosen = new Map<string, Backup>();
  for (const { id } of repositories.all()) {
    if (id === target.id) continue;
    for (const backup of catalog.backups.completed(contextId, id)) {
      if (newest !== null && backup.createdAt <= newest) continue;
      if (inTarget(catalog, backup.id, target)) continue;
      const original = originalOf(backup.id);
      // an original rather than a copy of it
      if (!chosen.has(original) || backup.copiedFrom === null) chosen.set(original, backup);
    }
  }
  return [...chosen.values()].toSorted(
    (a, b) => a.createdAt.localeCompare(b.createdAt) || a.id.localeCompare(b.id),
  );
}
