import type { Db } from '../open/open-catalog.ts';

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
  const newest = db.prepare<[], BootTestRow & { vm_context_id: string }>(
    `SELECT * FROM (SELECT t.*, b.vm_context_id, ROW_NUMBER() OVER (PARTITION BY b.vm_context_id ORDER BY t.tested_at DESC, t.backup_id DESC) AS place
        FROM boot_tests t JOIN backup_jobs b ON b.id = t.backup_id) WHERE place = 1`,
  );
  const remove = db.prepare<[string]>('DELETE FROM boot_tests WHERE backup_id = ?');
  const toTest = (row: BootTestRow): BootTest => ({
    backupId: row.backup_id,
    testedAt: row.tested_at,
    outcome: row.outcome,
    reason: row.reason,
    met: row.met.split(',').filter((text) => text !== ''),
    tookMs: row.took_ms,
  });
  return {
    ofBackup: (backupId: string): BootTest | null => {
      const row = ofBackup.get(backupId);
      return row ? toTest(row) : null;
    },
    /** The newest test of any restore point of each machine, by its context. */
    newest: (): Map<string, BootTest> => new Map(newest.all().map((row) => [row.vm_context_id, toTest(row)])),
    save: (test: BootTest) => save.run({ ...test, met: test.met.join(',') }),
    remove: (backupId: string) => remove.run(backupId),
  };
}

export type BootTestQueries = ReturnType<typeof bootTestQueries>;
