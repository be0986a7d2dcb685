import { SendenseError } from '../base/sendense-error.ts';
import type { Catalog } from '../catalog/catalog.ts';
import type { Backup } from '../catalog/points/backup-rows.ts';
import type { Vm } from '../catalog/vms.ts';

/** @throws VM_UNKNOWN */
export function findVm(catalog: Catalog, name: string): Vm {
  const vm = catalog.vms.byName(name);
  if (!vm) throw new SendenseError('VM_UNKNOWN', { vm: name });
  return vm;
}

/**
 * By id, by the beginning of an id (an original goes before its copies), or `latest` (of all machines) and `latest:<vm>`.
 * @throws BACKUP_UNKNOWN, BACKUP_AMBIGUOUS
 */
export function findBackup(catalog: Catalog, wanted: string): Backup {
  const unknown = () => new SendenseError('BACKUP_UNKNOWN', { backup: wanted });
  const latest = /^latest(?::(.+))?$/.exec(wanted);
  if (latest) {
    const contextId = latest[1] === undefined ? undefined : findVm(catalog, latest[1]).contextId;
    const [newest] = catalog.backups.list({
      status: 'completed',
      limit: 1,
      ...(contextId === undefined ? {} : { contextId }),
    });
    if (!newest) throw unknown();
    // a copy is as new as its original, which is nearer
    const original = newest.copiedFrom === null ? null : catalog.backups.byId(newest.copiedFrom);
    return original ?? newest;
  }
  const exact = catalog.backups.byId(wanted);
  if (exact) return exact;
  const begun = wanted.length < 3 ? [] : catalog.backups.byPrefix(wanted);
  // a whole id that is gone does not mean the backup of the same second, `…-2`; only copies of it begin with it and a dot
  const found = wholeId.test(wanted) ? begun.filter(({ id }) => id.startsWith(`${wanted}.`)) : begun;
  const [only, ...others] = withoutCopies(found);
  if (!only) throw unknown();
  if (others.length > 0) {
    const candidates = [only, ...others].map((backup) => backup.id);
    throw new SendenseError('BACKUP_AMBIGUOUS', { backup: wanted, count: candidates.length, candidates });
  }
  return only;
}

/** As `backupIdFor` makes them. */
const wholeId = /-\d{14}(-\d+)?$/;

/** A copy begins with the id of its original: it is meant only when it is all there is. */
function withoutCopies(found: readonly Backup[]): readonly Backup[] {
  const originals = found.filter(({ copiedFrom }) => !found.some(({ id }) => id === copiedFrom));
  return originals.length > 0 ? originals : found;
}

/**
 * To delete it: a whole id means this very backup, not a copy that is left of it.
 * @throws as findBackup
 */
export function findDoomed(catalog: Catalog, wanted: string): Backup {
  const backup = findBackup(catalog, wanted);
  if (wholeId.test(wanted) && backup.id !== wanted)
    throw new SendenseError('BACKUP_UNKNOWN', { backup: wanted });
  return backup;
}

/** @throws as findBackup, BACKUP_NOT_COMPLETE */
export function findCompleted(catalog: Catalog, wanted: string): Backup {
  const backup = findBackup(catalog, wanted);
  if (backup.status !== 'completed')
    throw new SendenseError('BACKUP_NOT_COMPLETE', { backup: backup.id, status: backup.status });
  return backup;
}
