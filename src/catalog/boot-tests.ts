import type { Db } from './open-catalog.ts';

/** The newest test of a restore point by booting it. */
export interface BootTest {
  readonly backupId: string;
  readonly testedAt: string;
  readonly outcome: 'passed' | 'failed';
  readonly reason: string;
  readonly met: readonly string[];
  readonly tookMs: number;
}

interface BootTestRow {
  backup_id: string;
  tested_at: string;
  outcome: 'passed' | 'failed';
  reason: string;
  met: string;
  took_ms: number;
}

export function bootTestQueries(db: Db) {
  const ofBackup = db.prepare<[string], BootTestRow>('SELECT * FROM boot_tests WHERE backup_id = ?');
  const save = db.prepare(
    `INSERT OR REPLACE INTO boot_tests (backup_id, tested_at, outcome, reason, met, took_ms)
     VALUES (@backupId, @testedAt, @outcome, @reason, @met, @tookMs)`,
  );
  const remove = db.prepare<[string]>('DELETE FROM boot_tests WHERE backup_id = ?');
  return {
    ofBackup: (backupId: string): BootTest | null => {
      const row = ofBackup.get(backupId);
      if (!row) return null;
      return {
        backupId: row.backup_id,
        testedAt: row.tested_at,
        outcome: row.outcome,
        reason: row.reason,
        met: row.met.split(',').filter((text) => text !== ''),
        tookMs: row.took_ms,
      };
    },
    save: (test: BootTest) => save.run({ ...test, met: test.met.join(',') }),
    remove: (backupId: string) => remove.run(backupId),
  };
}

export type BootTestQueries = ReturnType<typeof bootTestQueries>;
