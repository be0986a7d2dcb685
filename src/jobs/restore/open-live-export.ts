import { isIPv4 } from 'node:net';
import { SendenseError } from '../../base/sendense-error.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import { freePort } from '../../restore/live/free-port.ts';
import type { LiveRegistry, LiveSession } from '../../restore/live/live-registry.ts';
import { findCompleted } from '../find-backup.ts';
import type { MirrorDeps } from '../mirror/mirror-deps.ts';
import { mirrorRef, openMirrorDisks } from '../mirror/open-mirror-disks.ts';
import type { Repositories } from '../repository/repositories.ts';
import { chainResource, type LockRequest, type ResourceLocks } from '../resource-locks.ts';
import { readableDisks } from './read-chain.ts';

export interface LiveDeps {
  readonly catalog: Catalog;
  readonly repositories: Repositories;
  readonly locks: ResourceLocks;
  readonly lives: LiveRegistry;
  readonly mirrors: MirrorDeps;
  /** Live id → gives the backup back; called when it closes. */
  readonly liveLocks: Map<string, () => void>;
  readonly defaultExpiresS: number;
  readonly tcpAddress: string;
}

export interface LiveOrder {
  readonly backup: string;
  readonly diskIndex: number | null;
  readonly writable: boolean;
  readonly tcp: boolean;
  /** Null: one is chosen. */
  readonly port: number | null;
  /** Always on where others than this machine can connect. */
  readonly tls: boolean;
  /** Null: as configured. */
  readonly expiresS: number | null;
  readonly forceExpiry: boolean;
}

const isLoopback = (address: string): boolean =>
  isIPv4(address) ? address.startsWith('127.') : address === '::1';

/**
 * Serves a restore point; its backup cannot be deleted and its chain not be merged while it is served.
 * @throws BACKUP_…, DISK_UNKNOWN, LAYER_…, LIMIT_REACHED, TOOL_FAILED
 */
export async function openLiveExport(deps: LiveDeps, order: LiveOrder): Promise<LiveSession> {
  const inMirror = mirrorRef(order.backup);
  if (inMirror !== null) {
    const { diskIndex } = order;
    const opened = await openMirrorDisks(deps.mirrors, inMirror.mirror, inMirror.backup, diskIndex);
    return await serve(deps, order, opened.backup.backupId, opened.disks, () => void opened.close());
  }
  const backup = findCompleted(deps.catalog, order.backup);
  const request = (resource: string): LockRequest => ({
    resource,
    exclusive: false,
    busy: (holder) => new SendenseError('BACKUP_BUSY', { backup: backup.id, holder }),
  });
  // Its layers are opened anew when its storage daemon dies, after it was kept, and to keep it: nobody may rewrite one
  // as long as it is served, for the files below would no longer fit together.
  const release = await deps.locks.acquireSoon('a live export', [
    request(chainResource(backup.repositoryId, backup.contextId)),
    request(`backup:${backup.id}`),
  ]);
  const disks = await readableDisks(deps, backup, order.diskIndex).catch((error: unknown) => {
    release();
    throw error;
  });
  return await serve(deps, order, backup.id, disks, release);
}

async function serve(
  deps: LiveDeps,
  order: LiveOrder,
  backupId: string,
  disks: readonly { readonly diskIndex: number; readonly chain: readonly string[] }[],
  release: () => void,
): Promise<LiveSession> {
  try {
    const host = deps.tcpAddress;
    const tcp = order.tcp
      ? { host, port: order.port ?? (await freePort(host)), tls: order.tls || !isLoopback(host) }
      : null;
    const session = await deps.lives.open({
      backupId,
      disks,
      writable: order.writable,
      tcp,
      expiresMs: (order.expiresS ?? deps.defaultExpiresS) * 1000,
      forceExpiry: order.forceExpiry,
    });
    deps.liveLocks.set(session.live.liveId, release);
    return session;
  } catch (error) {
    release();
    throw error;
  }
}
