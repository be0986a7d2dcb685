import { SendenseError } from '../../base/sendense-error.ts';
import type { ResourceLocks } from '../resource-locks.ts';
import type { Repositories } from './repositories.ts';

interface DetachDeps {
  readonly repositories: Repositories;
  readonly locks: ResourceLocks;
}

/**
 * Lets go of a repository so that its file system can be unmounted. It is opened again when it was gone and is back.
 * @throws REPOSITORY_UNKNOWN, REPOSITORY_UNAVAILABLE, REPOSITORY_BUSY while a job works there
 */
export function detachRepository({ repositories, locks }: DetachDeps, name: string): void {
  const repository = repositories.byName(name);
  const release = locks.acquire('a detaching', [
    {
      resource: `repository:${repository.id}`,
      exclusive: true,
      busy: (holder) => new SendenseError('REPOSITORY_BUSY', { repository: name, holder }),
    },
  ]);
  repositories.detach(repository);
  release();
}
