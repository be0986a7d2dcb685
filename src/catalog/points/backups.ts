import type { Db } from '../open/open-catalog.ts';
import { type BackupFilter, listStatements } from './backup-list.ts';
import { type Backup, type BackupRow, byCompletion, type DiskRow, toBackup, toDisk } from './backup-rows.ts';
import { plannedQueries } from './planned-backups.ts';
import { verdictQueries } from './verdicts.ts';

export function backupQueries(db: Db) {
  const disksOf = db.prepare<[string], DiskRow & { backup_id: string }>(
    'SELECT * FROM backup_disks WHERE backup_id IN (SELECT value FROM json_each(?)) ORDER BY backup_id, disk_index',
  );
  /** With the disks of all of them in one query. */
  const toBackups = (rows: readonly BackupRow[]): Backup[] => {
    if (rows.length === 0) return [];
    const disks = Map.groupBy(
      disksOf.all(JSON.stringify(rows.map(({ id }) => id))),
      ({ backup_id }) => backup_id,
    );
    return rows.map((row) => toBackup(row, (disks.get(row.id) ?? []).map(toDisk)));
  };
  const byId = db.prepare<[string], BackupRow>('SELECT * FROM backup_jobs WHERE id = ?');
  const byPrefix = db.prepare<[string, string], BackupRow>(
    'SELECT * FROM backup_jobs WHERE id >= ? AND id < ? ORDER BY id LIMIT 5',
  );
  const rowsOf = listStatements(db);
  const newestCopy = db
    .prepare<[string, string], string | null>(
      `SELECT MAX(created_at) FROM backup_jobs WHERE vm_context_id = ? AND repository_id = ? AND copied_from IS NOT NULL AND status = 'completed'`,
    )
    .pluck();
  const completedIds = db.prepare<[string, string], string>(
    `SELECT id FROM backup_jobs WHERE vm_context_id = ? AND repository_id = ? AND status = 'completed'`,
  );
  const save = db.prepare(
    `INSERT INTO backup_jobs (id, job_id, vm_context_id, vm_name, backup_type, status, repository_id, consistency, bytes_transferred, total_bytes, error, created_at, started_at, completed_at, copied_from)
     VALUES (@id, @jobId, @contextId, @vmName, @type, @status, @repositoryId, @consistency, @bytesTransferred, @totalBytes, @error, @createdAt, @startedAt, @completedAt, @copiedFrom)
     ON CONFLICT (id) DO UPDATE SET status = @status, consistency = @consistency, bytes_transferred = @bytesTransferred, total_bytes = @totalBytes,
       error = @error, started_at = @startedAt, completed_at = @completedAt`,
  );
  const dropDisks = db.prepare<[string]>('DELETE FROM backup_disks WHERE backup_id = ?');
  const saveDisk = db.prepare(
    `INSERT INTO backup_disks (backup_id, disk_index, disk_key, backup_type, reason, layer, parent_layer, parent_backup_id, size_bytes, written_bytes, file_bytes, damage, fingerprint, verified_at, verified_ok)
     VALUES (@backupId, @diskIndex, @diskKey, @type, @reason, @layer, @parentLayer, @parentBackupId, @sizeBytes, @writtenBytes, @fileBytes, @damage, @fingerprint, @verifiedAt, @verifiedOk)`,
  );
  const markFingerprint = db.prepare<[string, string, number]>(
    'UPDATE backup_disks SET fingerprint = ? WHERE backup_id = ? AND disk_index = ?',
  );
  const sizeOf = db.prepare<[string], { backups: number; machines: number }>(
    `SELECT count(*) AS backups, count(DISTINCT vm_context_id) AS machines FROM backup_jobs WHERE repository_id = ? AND status = 'completed'`,
  );
  const remove = db.prepare<[string]>('DELETE FROM backup_jobs WHERE id = ?');
  const list = (filter: BackupFilter): Backup[] => toBackups(rowsOf(filter));
  return {
    byId: (id: string): Backup | null => {
      const row = byId.get(id);
      return row ? (toBackups([row])[0] ?? null) : null;
    },
    /** At most 5 whose id begins like this. */
    byPrefix: (prefix: string): Backup[] => toBackups(byPrefix.all(prefix, `${prefix}\u{10ffff}`)),
    list,
    /** The instant of the newest copy of a machine in a repository. */
    newestCopy: (contextId: string, repositoryId: string): string | null =>
      newestCopy.get(contextId, repositoryId) ?? null,
    completedIds: (contextId: string, repositoryId: string): Set<string> =>
      new Set(completedIds.pluck().all(contextId, repositoryId)),
    /** Completed backups of a machine in one repository, oldest first. */
    completed: (contextId: string, repositoryId: string): Backup[] =>
      list({ contextId, repositoryId, status: 'completed', limit: -1 }).sort(byCompletion),
    save: db.transaction((backup: Backup) => {
      save.run({
        ...backup,
        disks: null,
        error: backup.error === null ? null : JSON.stringify(backup.error),
      });
      dropDisks.run(backup.id);
      for (const disk of backup.disks) {
        const verifiedOk = disk.verifiedOk === null ? null : Number(disk.verifiedOk);
        saveDisk.run({ ...disk, verifiedOk, backupId: backup.id });
      }
    }),
    markFingerprint: (backupId: string, diskIndex: number, fingerprint: string) =>
      markFingerprint.run(fingerprint, backupId, diskIndex),
    /** Completed backups in a repository, and machines that have some there. */
    sizeOf: (repositoryId: string) => sizeOf.get(repositoryId) ?? { backups: 0, machines: 0 },
    ...plannedQueries(db),
    ...verdictQueries(db),
    remove: (id: string) => remove.run(id),
  };
}

export type BackupQueries = ReturnType<typeof backupQueries>;
