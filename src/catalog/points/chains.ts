import type { DiskChain } from '../../repository/layers/chains.ts';
import type { Db } from '../open/open-catalog.ts';

export interface CatalogChain {
  readonly id: string;
  readonly repositoryId: string;
  readonly diskId: number;
  readonly fullBackupId: string;
  readonly latestBackupId: string;
  readonly totalBackups: number;
  readonly totalSizeBytes: number;
}

interface ChainRow {
  id: string;
  repository_id: string;
  disk_id: number;
  full_backup_id: string;
  latest_backup_id: string;
  total_backups: number;
  total_size_bytes: number;
}

export function chainQueries(db: Db) {
  const drop = db.prepare<[string, string]>(
    'DELETE FROM backup_chains WHERE vm_context_id = ? AND repository_id = ?',
  );
  const insert = db.prepare(
    `INSERT INTO backup_chains (id, vm_context_id, repository_id, disk_id, full_backup_id, latest_backup_id, total_backups, total_size_bytes, updated_at)
     VALUES (@id, @contextId, @repositoryId, @diskIndex, @fullBackupId, @latestBackupId, @totalBackups, @totalSizeBytes, @now)`,
  );
  const ofVm = db.prepare<[string], ChainRow>(
    'SELECT * FROM backup_chains WHERE vm_context_id = ? ORDER BY disk_id, id',
  );
  const overdue = db.prepare<[number], { vm_context_id: string; repository_id: string }>(
    `SELECT vm_context_id, repository_id FROM backup_chains WHERE total_backups > ?
     UNION SELECT vm_context_id, repository_id FROM retired_backups`,
  );
  const machinesIn = db
    .prepare<[string], string>('SELECT DISTINCT vm_context_id FROM backup_chains WHERE repository_id = ?')
    .pluck();
  const usedBytes = db
    .prepare<[string], number | null>(
      'SELECT SUM(total_size_bytes) FROM backup_chains WHERE repository_id = ?',
    )
    .pluck();
  return {
    /** Machines with a chain longer than this, or with layers of deleted backups: all that may be worth shortening. */
    overdue: (maxDepth: number): { contextId: string; repositoryId: string }[] =>
      overdue.all(maxDepth).map((row) => ({ contextId: row.vm_context_id, repositoryId: row.repository_id })),
    /** Machines that have layers in a repository. */
    machinesIn: (repositoryId: string): Set<string> => new Set(machinesIn.all(repositoryId)),
    /** Length of all layers in a repository. */
    usedBytes: (repositoryId: string): number => usedBytes.get(repositoryId) ?? 0,
    /** Chains are derived from the backups; after a change they are written anew. */
    replace: db.transaction(
      (contextId: string, repositoryId: string, chains: readonly DiskChain[], now: Date) => {
        drop.run(contextId, repositoryId);
        for (const chain of chains) {
          insert.run({
            id: `${chain.fullBackupId}-disk${chain.diskIndex}`,
            contextId,
            repositoryId,
            diskIndex: chain.diskIndex,
            fullBackupId: chain.fullBackupId,
            latestBackupId: chain.latestBackupId,
            totalBackups: chain.backups.length,
            totalSizeBytes: chain.totalSizeBytes,
            now: now.toISOString(),
          });
        }
      },
    ),
    ofVm: (contextId: string): CatalogChain[] =>
      ofVm.all(contextId).map((row) => ({
        id: row.id,
        repositoryId: row.repository_id,
        diskId: row.disk_id,
        fullBackupId: row.full_backup_id,
        latestBackupId: row.latest_backup_id,
        totalBackups: row.total_backups,
        totalSizeBytes: row.total_size_bytes,
      })),
  };
}

export type ChainQueries = ReturnType<typeof chainQueries>;
