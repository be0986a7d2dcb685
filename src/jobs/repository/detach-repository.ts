import { SendenseError } from '../../base/sendense-error.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import type { LockRequest, ResourceLocks } from '../resource-locks.ts';
import type { RepositoryKeeper } from './repository-keeper.ts';

interface DetachDeps {
  readonly catalog: Catalog;
  readonly keeper: RepositoryKeeper;
  readonly locks: ResourceLocks;
}

/**
 * Lets go of a repository so that its file system can be unmounted. It is opened again when it was gone and is back.
 * @throws REPOSITORY_UNKNOWN, REPOSITORY_UNAVAILABLE, REPOSITORY_BUSY while a job works there or a restore point of it is mounted
 */
export function detachRepository({ catalog, keeper, locks }: DetachDeps, name: string): void {
  const repository = keeper.repositories.byName(name);
  const alone = (resource: string): LockRequest => ({
    resource,
    exclusive: true,
    busy: (holder) => new SendenseError('REPOSITORY_BUSY', { repository: name, holder }),
  });
  const backups = catalog.backups.list({ repositoryId: repository.id, limit: -1 });
  const release = locks.acquire('a detaching', [
    alone(`repository:${repository.id}`),
    // mounts and restores hold only what they read
    ...backups.map(({ id }) => alone(`backup:${id}`)),
  ]);
  keeper.detach(repository);
  release();
}
