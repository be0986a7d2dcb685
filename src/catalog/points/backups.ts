import type { Statement } from 'better-sqlite3';
import { compareText } from '../../base/compare-text.ts';
import type { ErrorReport } from '../../base/sendense-error.ts';
import type { LayerType } from '../../nbd/exports/export-name.ts';
import type { Db } from '../open/open-catalog.ts';

export type JobStatus = 'pending' | 'running' | 'completed' | 'failed' | 'cancelled';

export interface BackupDisk {
  readonly diskIndex: number;
  readonly diskKey: string;
  readonly type: LayerType;
  readonly reason: string | null;
  readonly layer: string;
  readonly parentLayer: string | null;
  readonly parentBackupId: string | null;
  readonly sizeBytes: number;
  readonly writtenBytes: number;
  readonly fileBytes: number;
  readonly damage: string | null;
  readonly fingerprint: string | null;
  /** When the layer's content was last compared with its rows; null: never. */
  readonly verifiedAt: string | null;
  readonly verifiedOk: boolean | null;
}

export interface Backup {
  readonly id: string;
  readonly jobId: string;
  readonly contextId: string;
  readonly vmName: string;
  readonly type: LayerType;
  readonly status: JobStatus;
  readonly repositoryId: string;
  readonly consistency: string;
  readonly bytesTransferred: number;
  readonly totalBytes: number;
  readonly error: ErrorReport | null;
  readonly createdAt: string;
  readonly startedAt: string | null;
  readonly completedAt: string | null;
  /** The restore point of which this one is a copy. */
  readonly copiedFrom: string | null;
  readonly disks: readonly BackupDisk[];
}

interface BackupRow {
  id: string;
  job_id: string;
  vm_context_id: string;
  vm_name: string;
  backup_type: LayerType;
  status: JobStatus;
  repository_id: string;
  consistency: string;
  bytes_transferred: number;
  total_bytes: number;
  error: string | null;
  created_at: string;
  started_at: string | null;
  completed_at: string | null;
  copied_from: string | null;
}

interface DiskRow {
  disk_index: number;
  disk_key: string;
  backup_type: LayerType;
  reason: string | null;
  layer: string;
  parent_layer: string | null;
  parent_backup_id: string | null;
  size_bytes: number;
  written_bytes: number;
  file_bytes: number;
  damage: string | null;
  fingerprint: string | null;
  verified_at: string | null;
  verified_ok: number | null;
}

/** A disk of a restore point, and when its content was last compared with its rows. */
export interface UnverifiedDisk {
  readonly backupId: string;
  readonly diskIndex: number;
  readonly fileBytes: number;
  readonly verifiedAt: string | null;
}

interface UnverifiedRow {
  backup_id: string;
  disk_index: number;
  file_bytes: number;
  verified_at: string | null;
}
/** What the planning of retention needs of a restore point, of which there may be a hundred thousand. */
export interface PlannedBackup extends Pick<Backup, 'id' | 'createdAt' | 'completedAt'> {
  readonly disks: Pick<
    BackupDisk,
    'diskIndex' | 'layer' | 'parentLayer' | 'parentBackupId' | 'fileBytes' | 'damage'
  >[];
}

type PlannedRow = [
  id: string,
  createdAt: string,
  completedAt: string | null,
  diskIndex: number,
  layer: string,
  parentLayer: string | null,
  parentBackupId: string | null,
  fileBytes: number,
  damage: string | null,
];

export interface BackupFilter {
  readonly contextId?: string;
  /** Only of these machines. */
  readonly contextIds?: readonly string[];
  readonly status?: JobStatus;
  readonly repositoryId?: string;
  /** Only backups before this id in the list's order (newest first). */
  readonly after?: { readonly createdAt: string; readonly id: string };
  readonly limit: number;
}

const toDisk = (row: DiskRow): BackupDisk => ({
  diskIndex: row.disk_index,
  diskKey: row.disk_key,
  type: row.backup_type,
  reason: row.reason,
  layer: row.layer,
  parentLayer: row.parent_layer,
  parentBackupId: row.parent_backup_id,
  sizeBytes: row.size_bytes,
  writtenBytes: row.written_bytes,
  fileBytes: row.file_bytes,
  damage: row.damage,
  fingerprint: row.fingerprint,
  verifiedAt: row.verified_at,
  verifiedOk: row.verified_ok === null ? null : row.verified_ok === 1,
});

const byCompletion = (a: Pick<Backup, 'id' | 'completedAt'>, b: Pick<Backup, 'id' | 'completedAt'>): number =>
  compareText(a.completedAt ?? '', b.completedAt ?? '') || compareText(a.id, b.id);

const toBackup = (row: BackupRow, disks: readonly BackupDisk[]): Backup => ({
  id: row.id,
  jobId: row.job_id,
  contextId: row.vm_context_id,
  vmName: row.vm_name,
  type: row.backup_type,
  status: row.status,
  repositoryId: row.repository_id,
  consistency: row.consistency,
  bytesTransferred: row.bytes_transferred,
  totalBytes: row.total_bytes,
  error: row.error === null ? null : (JSON.parse(row.error) as ErrorReport),
  createdAt: row.created_at,
  startedAt: row.started_at,
  completedAt: row.completed_at,
  copiedFrom: row.copied_from,
  disks,
});

/** One statement for each set of filters: only then does each find its index. */
function listStatements(db: Db) {
  const prepared = new Map<string, Statement<[Record<string, string | number>], BackupRow>>();
  return (filter: BackupFilter): BackupRow[] => {
    const { contextId, contextIds, status, repositoryId, after, limit } = filter;
    const conditions = [
      ...(contextId === undefined ? [] : ['vm_context_id = @contextId']),
      ...(contextIds === undefined ? [] : ['vm_context_id IN (SELECT value FROM json_each(@contextIds))']),
      ...(repositoryId === undefined ? [] : ['repository_id = @repositoryId']),
      ...(status === undefined ? [] : ['status = @status']),
      ...(after === undefined ? [] : ['(created_at, id) < (@afterAt, @afterId)']),
    ];
    const where = conditions.length === 0 ? '' : `WHERE ${conditions.join(' AND ')}`;
    const statement =
      prepared.get(where) ??
      db.prepare<[Record<string, string | number>], BackupRow>(
        `SELECT * FROM backup_jobs ${where} ORDER BY created_at DESC, id DESC LIMIT @limit`,
      );
    prepared.set(where, statement);
    return statement.all({
      limit,
      ...(contextId === undefined ? {} : { contextId }),
      ...(contextIds === undefined ? {} : { contextIds: JSON.stringify(contextIds) }),
      ...(repositoryId === undefined ? {} : { repositoryId }),
      ...(status === undefined ? {} : { status }),
      ...(after === undefined ? {} : { afterAt: after.createdAt, afterId: after.id }),
    });
  };
}

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
  const planned = db
    .prepare<[string, string], PlannedRow>(
      `SELECT id, created_at, completed_at, disk_index, layer, parent_layer, parent_backup_id, file_bytes, damage
       FROM backup_jobs JOIN backup_disks ON backup_disks.backup_id = backup_jobs.id
       WHERE vm_context_id = ? AND repository_id = ? AND status = 'completed' ORDER BY created_at, id, disk_index`,
    )
    .raw();
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
  const markDamage = db.prepare<[string, string, number]>(
    'UPDATE backup_disks SET damage = ? WHERE backup_id = ? AND disk_index = ?',
  );
  const clearDamage = db.prepare<[string, number]>(
    'UPDATE backup_disks SET damage = NULL WHERE backup_id = ? AND disk_index = ?',
  );
  const markFingerprint = db.prepare<[string, string, number]>(
    'UPDATE backup_disks SET fingerprint = ? WHERE backup_id = ? AND disk_index = ?',
  );
  const markVerified = db.prepare<[string, number, string, number]>(
    'UPDATE backup_disks SET verified_at = ?, verified_ok = ? WHERE backup_id = ? AND disk_index = ?',
  );
  const sizeOf = db.prepare<[string], { backups: number; machines: number }>(
    `SELECT count(*) AS backups, count(DISTINCT vm_context_id) AS machines FROM backup_jobs WHERE repository_id = ? AND status = 'completed'`,
  );
  const storedBytes = db.prepare<[string, string], { total: number | null; recent: number | null }>(
    `SELECT sum(file_bytes) AS total, sum(CASE WHEN verified_at >= ? THEN file_bytes END) AS recent
       FROM backup_disks d JOIN backup_jobs b ON b.id = d.backup_id
      WHERE b.repository_id IN (SELECT value FROM json_each(?))`,
  );
  // SQLite sorts nulls first: what was never verified goes before all else
  const longestUnverified = db.prepare<[string, number], UnverifiedRow>(
    `SELECT d.backup_id, d.disk_index, d.file_bytes, d.verified_at FROM backup_disks d JOIN backup_jobs b ON b.id = d.backup_id
      WHERE d.damage IS NULL AND b.repository_id IN (SELECT value FROM json_each(?))
      ORDER BY d.verified_at, b.completed_at, d.backup_id, d.disk_index LIMIT ?`,
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
    /** Completed backups of a machine in one repository, oldest first, with what planning needs. */
    planned: (contextId: string, repositoryId: string): PlannedBackup[] => {
      const backups: PlannedBackup[] = [];
      for (const row of planned.all(contextId, repositoryId)) {
        const [id, createdAt, completedAt, diskIndex, layer, parentLayer, parentBackupId, fileBytes, damage] =
          row;
        const disk = { diskIndex, layer, parentLayer, parentBackupId, fileBytes, damage };
        const last = backups.at(-1);
        if (last?.id === id) last.disks.push(disk);
        else backups.push({ id, createdAt, completedAt, disks: [disk] });
      }
      // the index gives them by their beginning, which is nearly the same
      return backups.sort(byCompletion);
    },
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
    markDamage: (backupId: string, diskIndex: number, damage: string) =>
      markDamage.run(damage, backupId, diskIndex),
    clearDamage: (backupId: string, diskIndex: number) => clearDamage.run(backupId, diskIndex),
    markFingerprint: (backupId: string, diskIndex: number, fingerprint: string) =>
      markFingerprint.run(fingerprint, backupId, diskIndex),
    markVerified: (backupId: string, diskIndex: number, at: string, ok: boolean) =>
      markVerified.run(at, Number(ok), backupId, diskIndex),
    /** Completed backups in a repository, and machines that have some there. */
    sizeOf: (repositoryId: string) => sizeOf.get(repositoryId) ?? { backups: 0, machines: 0 },
    /** Bytes of all layers in these repositories, and of those that were verified since then. */
    storedBytes: (repositoryIds: readonly string[], since: string): { total: number; recent: number } => {
      const row = storedBytes.get(since, JSON.stringify(repositoryIds));
      return { total: row?.total ?? 0, recent: row?.recent ?? 0 };
    },
    /** Disks of restore points not known to be damaged; never verified ones first, then the oldest verdict. */
    longestUnverified: (repositoryIds: readonly string[], limit: number): UnverifiedDisk[] =>
      longestUnverified.all(JSON.stringify(repositoryIds), limit).map((row) => ({
        backupId: row.backup_id,
        diskIndex: row.disk_index,
        fileBytes: row.file_bytes,
        verifiedAt: row.verified_at,
      })),
    remove: (id: string) => remove.run(id),
  };
}

export type BackupQueries = ReturnType<typeof backupQueries>;
