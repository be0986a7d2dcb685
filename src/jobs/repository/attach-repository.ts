import { realpath } from 'node:fs/promises';
import { resolve } from 'node:path';
import { SendenseError } from '../../base/sendense-error.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import { type Repository, readRepositoryDocument } from '../../repository/open-repository.ts';
import type { RepositoryKeeper } from './repository-keeper.ts';

export interface AttachDeps {
  readonly catalog: Catalog;
  readonly keeper: RepositoryKeeper;
}

export interface AttachedRepository {
  readonly repository: Repository;
  readonly machines: number;
  readonly backups: number;
}

/**
 * Takes a repository that is there already, perhaps written by another appliance; never makes one. Its machines are
 * known from their backups alone until somebody adds them. One that is known under this name and is away may have
 * moved.
 * @throws REPOSITORY_UNAVAILABLE, REPOSITORY_IS_COPY, REPOSITORY_EXISTS, FORMAT_INVALID, FORMAT_TOO_NEW
 */
export async function attachRepository(
  deps: AttachDeps,
  name: string,
  path: string,
): Promise<AttachedRepository> {
  const { catalog, keeper } = deps;
  const root = await realpath(path).catch(() => resolve(path));
  const document = await readRepositoryDocument(root);
  if (document === null)
    throw new SendenseError('REPOSITORY_UNAVAILABLE', {
      path: root,
      detail: 'there is no repository.json; `repository add` makes a new repository',
    });
  const twin = catalog.repositories.all().find((known) => known.id === document.repository_id);
  const isOpen = keeper.repositories.all().some((known) => known.id === document.repository_id);
  if (twin && (isOpen || twin.name !== name))
    throw new SendenseError('REPOSITORY_IS_COPY', { path: root, repository: twin.name, root: twin.root });
  const repository = await keeper.add(name, root, 'decide');
  await keeper.repositories.firstLooks();
  return { repository, ...catalog.backups.sizeOf(repository.id) };
}
