import type { Db } from '../open/open-catalog.ts';

/** A wish that a restore point stays, whatever the rules say. */
export interface BackupPin {
  readonly pinId: string;
  readonly backupId: string;
  readonly reason: string;
  /** ISO time; null: for ever. */
  readonly until: string | null;
  readonly createdAt: string;
}

interface PinRow {
  pin_id: string;
  backup_id: string;
  reason: string;
  until: string | null;
  created_at: string;
}

const toPin = (row: PinRow): BackupPin => ({
  pinId: row.pin_id,
  backupId: row.backup_id,
  reason: row.reason,
  until: row.until,
  createdAt: row.created_at,
});

export function pinQueries(db: Db) {
  const ofBackup = db.prepare<[string], PinRow>(
    'SELECT * FROM backup_pins WHERE backup_id = ? ORDER BY created_at, pin_id',
  );
  const ofVm = db.prepare<[string, string], PinRow>(
    `SELECT backup_pins.* FROM backup_pins JOIN backup_jobs ON backup_jobs.id = backup_pins.backup_id
     WHERE vm_context_id = ? AND repository_id = ?`,
  );
  const drop = db.prepare<[string]>('DELETE FROM backup_pins WHERE backup_id = ?');
  const insert = db.prepare(
    'INSERT INTO backup_pins (pin_id, backup_id, reason, until, created_at) VALUES (@pinId, @backupId, @reason, @until, @createdAt)',
  );
  return {
    ofBackup: (backupId: string): BackupPin[] => ofBackup.all(backupId).map(toPin),
    ofVm: (contextId: string, repositoryId: string): BackupPin[] =>
      ofVm.all(contextId, repositoryId).map(toPin),
    /** All pins of a backup, as its file beside the manifest has them. */
    replace: db.transaction((backupId: string, pins: readonly BackupPin[]) => {
      drop.run(backupId);
      for (const pin of pins) insert.run(pin);
    }),
  };
}

export type PinQueries = ReturnType<typeof pinQueries>;
