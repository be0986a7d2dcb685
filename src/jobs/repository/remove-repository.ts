import { SendenseError } from '../../base/sendense-error.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import type { LockRequest, ResourceLocks } from '../resource-locks.ts';
import type { Repositories } from './repositories.ts';

export interface RemoveRepositoryDeps {
  readonly catalog: Catalog;
  readonly repositories: Repositories;
  readonly locks: ResourceLocks;
}

export interface RemovedRepository {
  readonly name: string;
  readonly path: string;
  /** Backups that lie there and are not listed any more. */
  readonly backups: number;
}

/**
 * Forgets a repository, also one that is away. Its files stay: adding the folder again brings the backups back.
 * @throws REPOSITORY_UNKNOWN, REPOSITORY_BUILT_IN, REPOSITORY_HAS_BACKUPS, REPOSITORY_BUSY
 */
export function removeRepository(
  deps: RemoveRepositoryDeps,
  name: string,
  keepBackups: boolean,
): RemovedRepository {
  const { catalog, locks } = deps;
  const record = catalog.repositories.all().find((candidate) => candidate.name === name);
  if (!record) throw new SendenseError('REPOSITORY_UNKNOWN', { repository: name });
  if (name === 'local') throw new SendenseError('REPOSITORY_BUILT_IN', { repository: name });
  const backups = catalog.backups.list({ repositoryId: record.id, limit: -1 });
  const count = backups.filter((backup) => backup.status === 'completed').length;
  const alone = (resource: string): LockRequest => ({
    resource,
    exclusive: true,
    busy: (holder) => new SendenseError('REPOSITORY_BUSY', { repository: name, holder }),
  });
  const release = locks.acquire('a removal', [
    alone(`repository:${record.id}`),
    ...backups.map((backup) => alone(`backup:${backup.id}`)),
  ]);
  try {
    if (count > 0 && !keepBackups)
      throw new SendenseError('REPOSITORY_HAS_BACKUPS', { repository: name, count });
    catalog.transaction(() => {
      catalog.repositories.remove(record.id);
      for (const contextId of new Set(backups.map((backup) => backup.contextId)))
        forgetUnknownVm(catalog, contextId);
    });
    deps.repositories.forget(record.id);
  } finally {
    release();
  }
  catalog.events.add({
    kind: 'repository.removed',
    severity: 'info',
    subject: name,
    message: `The repository ${name} is not used any more; ${count} backups stay in ${record.root}.`,
    data: { path: record.root, backups: count },
  });
  return { name, path: record.root, backups: count };
}

/** A machine that only its backups were known of is not known without them. */
function forgetUnknownVm(catalog: Catalog, contextId: string): void {
  const vm = catalog.vms.byContext(contextId);
  if (!vm || vm.registered) return;
  const left = catalog.backups.list({ contextId, status: 'completed', limit: 1 });
  if (left.length === 0) catalog.vms.remove(contextId);
}
