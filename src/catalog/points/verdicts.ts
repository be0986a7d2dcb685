import type { Db } from '../open/open-catalog.ts';

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

/** What is known of the content of layers: damage that was found, and when each was last compared with its rows. */
export function verdictQueries(db: Db) {
  const markDamage = db.prepare<[string, string, number]>(
    'UPDATE backup_disks SET damage = ? WHERE backup_id = ? AND disk_index = ?',
  );
  const clearDamage = db.prepare<[string, number]>(
    'UPDATE backup_disks SET damage = NULL WHERE backup_id = ? AND disk_index = ?',
  );
  const markVerified = db.prepare<[string, number, string, number]>(
    'UPDATE backup_disks SET verified_at = ?, verified_ok = ? WHERE backup_id = ? AND disk_index = ?',
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
  return {
    markDamage: (backupId: string, diskIndex: number, damage: string) =>
      markDamage.run(damage, backupId, diskIndex),
    clearDamage: (backupId: string, diskIndex: number) => clearDamage.run(backupId, diskIndex),
    markVerified: (backupId: string, diskIndex: number, at: string, ok: boolean) =>
      markVerified.run(at, Number(ok), backupId, diskIndex),
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
  };
}
