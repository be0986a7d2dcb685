import { setTimeout as sleep } from 'node:timers/promises';
import { hasCode } from '../../../base/sendense-error.ts';
import type { Backup } from '../../../catalog/points/backup-rows.ts';
import type { BackupDeps, BackupRequest } from '../backup-deps.ts';
import { latestOf } from './plan-disk.ts';

/** A deletion takes well under a second; one of many restore points longer. */
const PATIENCE_MS = 5 * 60_000;
const LOOK_AGAIN_MS = 50;

/**
 * Holds the newest restore point of a disk before anybody looks at its chain: what a new layer may stand on must not go
 * in between. One that is being deleted just now is waited for.
 * @returns the machine's restore points as they are from then on, oldest first
 * @throws BACKUP_BUSY, CANCELLED
 */
export async function holdLatest(
  deps: Pick<BackupDeps, 'catalog'>,
  request: BackupRequest,
  diskIndex: number,
  signal: AbortSignal,
): Promise<readonly Backup[]> {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    signal.throwIfAborted();
    const history = deps.catalog.backups.completed(request.vm.contextId, request.repository.id);
    const latest = latestOf(history, diskIndex);
    if (latest === null) return history;
    try {
      request.holdBackup(latest.backup.id);
      return history;
    } catch (error) {
      if (!hasCode(error, 'BACKUP_BUSY') || Date.now() > deadline) throw error;
    }
    await sleep(LOOK_AGAIN_MS);
  }
}
