import { realpath } from 'node:fs/promises';
import { basename, dirname, join, sep } from 'node:path';
import { SendenseError } from '../../base/sendense-error.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import type { WantedMode } from '../../restore/mount/mount-mode.ts';
import type { MountRegistry } from '../../restore/mount/mount-registry.ts';
import type { MountSession } from '../../restore/mount/mount-session.ts';
import { findCompleted } from '../find-backup.ts';
import type { MirrorDeps } from '../mirror/mirror-deps.ts';
import { mirrorRef, openMirrorDisks } from '../mirror/open-mirror-disks.ts';
import type { Repositories } from '../repository/repositories.ts';
import { chainResource, type LockRequest, type ResourceLocks } from '../resource-locks.ts';
import { readableDisks } from './read-chain.ts';

export interface MountDeps {
  readonly catalog: Catalog;
  readonly repositories: Repositories;
  readonly locks: ResourceLocks;
  readonly mounts: MountRegistry;
  readonly mirrors: MirrorDeps;
  /** Folders of the appliance itself: nothing is shown there. */
  readonly ownFolders: readonly string[];
  /** Mount id → gives the backup back; called when the mount closes. */
  readonly mountLocks: Map<string, () => void>;
}

export interface MountOrder {
  readonly backup: string;
  /** Null: all of them. */
  readonly diskIndex: number | null;
  readonly exposeAt: string | null;
  readonly mode?: WantedMode | undefined;
  /** For what is encrypted; kept nowhere. */
  readonly passphrases?: readonly string[] | undefined;
}

/**
 * Mounts a restore point; the backup cannot be deleted while it is mounted.
 * @throws BACKUP_…, DISK_UNKNOWN, LAYER_…, MOUNT_FAILED, LIMIT_REACHED
 */
export async function openRestoreMount(
  deps: MountDeps,
  { backup: wanted, diskIndex, exposeAt, mode, passphrases }: MountOrder,
): Promise<MountSession> {
  if (exposeAt !== null) await refuseOwnFolders(deps, exposeAt);
  const inMirror = mirrorRef(wanted);
  if (inMirror !== null)
    return await mountFromMirror(deps, inMirror, { diskIndex, exposeAt, mode, passphrases });
  const backup = findCompleted(deps.catalog, wanted);
  const request = (resource: string): LockRequest => ({
    resource,
    exclusive: false,
    busy: (holder) => new SendenseError('BACKUP_BUSY', { backup: backup.id, holder }),
  });
  // nobody may rewrite layers while they are looked at and opened; afterwards only this backup is held
  const opening = await deps.locks.acquireSoon('a mount', [
    request(chainResource(backup.repositoryId, backup.contextId)),
  ]);
  let release = () => {};
  try {
    release = await deps.locks.acquireSoon('a mount', [request(`backup:${backup.id}`)]);
    const disks = await readableDisks(deps, backup, diskIndex);
    const session = await deps.mounts.open({ backupId: backup.id, disks, mode, passphrases, exposeAt });
    deps.mountLocks.set(session.mountId, release);
    return session;
  } catch (error) {
    release();
    throw error;
  } finally {
    opening();
  }
}

/** Only what is looked at is fetched. */
async function mountFromMirror(
  deps: MountDeps,
  { mirror, backup }: { readonly mirror: string; readonly backup: string },
  order: Omit<MountOrder, 'backup'>,
): Promise<MountSession> {
  const opened = await openMirrorDisks(deps.mirrors, mirror, backup, order.diskIndex);
  try {
    const { disks } = opened;
    const session = await deps.mounts.open({ ...order, backupId: opened.backup.backupId, disks });
    deps.mountLocks.set(session.mountId, () => void opened.close());
    return session;
  } catch (error) {
    await opened.close();
    throw error;
  }
}

/** @throws OUTPUT_INVALID for a place inside the appliance's folders or a repository */
async function refuseOwnFolders(deps: MountDeps, path: string): Promise<void> {
  const real = await realpath(path).catch(async () =>
    join(await realpath(dirname(path)).catch(() => dirname(path)), basename(path)),
  );
  const own = [...deps.ownFolders, ...deps.repositories.all().map((repository) => repository.root)];
  if (own.some((folder) => real === folder || real.startsWith(folder + sep))) {
    throw new SendenseError('OUTPUT_INVALID', { path, detail: 'it lies inside the appliance' });
  }
}
