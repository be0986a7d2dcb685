import { createHash } from 'node:crypto';
import { rm, rmdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { syncFolder } from '../../base/durable-file.ts';
import { errnoOf, hasCode, SendenseError } from '../../base/sendense-error.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import type { Vm } from '../../catalog/vms.ts';
import { machineOrphans, type Orphan, rootOrphans } from '../../repository/find-orphans.ts';
import { confirmRepository, type Repository } from '../../repository/open-repository.ts';
import { machineFolders } from '../../repository/read-repository.ts';
import type { Repositories } from '../repository/repositories.ts';
import { chainResource, type LockRequest, type ResourceLocks } from '../resource-locks.ts';

export interface OrphanDeps {
  readonly catalog: Catalog;
  readonly locks: ResourceLocks;
  readonly repositories: Repositories;
}

export interface OrphanList {
  /** Names exactly these files in this state; what removes them asks for it. */
  readonly plan: string;
  readonly orphans: readonly Orphan[];
  /** Of those that may go. */
  readonly totalBytes: number;
  /** Machines that a job uses just now: nothing of them is listed. */
  readonly busyMachines: readonly string[];
  /** There are more than are listed; they are listed once these are gone. */
  readonly isCut: boolean;
}

/** So many are listed at once. */
const MAX_LISTED = 10_000;

/** What lies in a repository that nothing needs. @throws REPOSITORY_UNKNOWN, REPOSITORY_UNAVAILABLE, REPOSITORY_BUSY */
export async function listOrphans(deps: OrphanDeps, name: string): Promise<OrphanList> {
  await using found = await search(deps, deps.repositories.byName(name), false);
  return found.list;
}

/**
 * Removes what a list showed, if it is still exactly that.
 * @throws ORPHANS_CHANGED, and as listOrphans
 */
export async function removeOrphans(
  deps: OrphanDeps,
  name: string,
  plan: string,
): Promise<{ removed: string[]; freedBytes: number }> {
  const repository = deps.repositories.byName(name);
  await using found = await search(deps, repository, true);
  if (found.list.plan !== plan) throw new SendenseError('ORPHANS_CHANGED', { repository: name, plan });
  const going = found.list.orphans.filter(({ keep }) => keep === null);
  for (const { path, kind } of going) {
    const full = join(repository.root, path);
    if (kind === 'empty folder') await removeFolder(full);
    else await rm(full, { force: true, recursive: kind === 'boot test' });
  }
  for (const folder of new Set(going.map(({ path }) => dirname(join(repository.root, path)))))
    await syncFolder(folder).catch((error: unknown) => {
      if (errnoOf(error) !== 'ENOENT') throw error;
    });
  const removed = going.map(({ path }) => path);
  deps.catalog.events.add({
    kind: 'repository.cleaned',
    severity: 'info',
    subject: name,
    message: `${removed.length} files and folders that nothing needed were removed from ${name}.`,
    data: { freed_bytes: found.list.totalBytes, paths: removed.slice(0, 100) },
  });
  return { removed, freedBytes: found.list.totalBytes };
}

/** With its empty `backups`; one that is not empty any more stays. */
async function removeFolder(folder: string): Promise<void> {
  for (const path of [join(folder, 'backups'), folder])
    await rmdir(path).catch((error: unknown) => {
      if (!['ENOENT', 'ENOTEMPTY', 'ENOTDIR'].includes(errnoOf(error) ?? '')) throw error;
    });
}

/**
 * Holds each machine while it looks at it.
 * @param keep hold those that have orphans until this is disposed of
 */
async function search(
  { catalog, locks }: OrphanDeps,
  repository: Repository,
  keep: boolean,
): Promise<AsyncDisposable & { list: OrphanList }> {
  const busy = (holder: string) =>
    new SendenseError('REPOSITORY_BUSY', { repository: repository.name, holder });
  const held = [
    locks.acquire('a search for orphans', [
      { resource: `repository:${repository.id}`, exclusive: false, busy },
      { resource: `orphans:${repository.id}`, exclusive: true, busy },
    ]),
  ];
  const release = () => {
    for (const giveBack of held) giveBack();
  };
  try {
    await confirmRepository(repository);
    const orphans = await rootOrphans(repository.root);
    const busyMachines: string[] = [];
    for (const vmUuid of await machineFolders(repository.root)) {
      if (orphans.length >= MAX_LISTED) break;
      const vm = catalog.vms.byUuid(vmUuid);
      try {
        const giveBack = vm
          ? await locks.acquireSoon('a search for orphans', locksOf(repository, vm))
          : () => undefined;
        held.push(giveBack);
        const found = await machineOrphans(repository.root, vmUuid);
        orphans.push(...found);
        if (!keep || found.length === 0) giveBack();
      } catch (error) {
        if (!hasCode(error, 'VM_BUSY')) throw error;
        busyMachines.push(vm?.name ?? vmUuid);
      }
    }
    const list = listOf(orphans, busyMachines);
    return { list, [Symbol.asyncDispose]: async () => release() };
  } catch (error) {
    release();
    throw error;
  }
}

/** Alone with the layers of the machine, and no backup of it begins meanwhile. */
function locksOf(repository: Repository, vm: Vm): LockRequest[] {
  const busy = (job: string) => new SendenseError('VM_BUSY', { vm: vm.name, job });
  return [chainResource(repository.id, vm.contextId), `vm:${vm.contextId}`].map((resource) => ({
    resource,
    exclusive: true,
    busy,
  }));
}

function listOf(found: readonly Orphan[], busyMachines: readonly string[]): OrphanList {
  const orphans = found.slice(0, MAX_LISTED);
  const going = orphans.filter(({ keep }) => keep === null);
  const hash = createHash('sha256');
  for (const { path, kind, bytes, modifiedAt } of going)
    hash.update(JSON.stringify([path, kind, bytes, modifiedAt]));
  return {
    plan: hash.digest('hex').slice(0, 12),
    orphans,
    totalBytes: going.reduce((sum, { bytes }) => sum + bytes, 0),
    busyMachines,
    isCut: found.length > MAX_LISTED,
  };
}
