import type { Db } from '../open/open-catalog.ts';

interface NewestRow {
  id: string;
  created_at: string;
}

/**
 * What is asked of every machine when coverage is judged. Each answer is one step into an index, so that ten thousand
 * machines with a million restore points take less than a second.
 */
export function coverageQueries(db: Db) {
  const good = `b.vm_context_id = @contextId AND b.repository_id = @repositoryId AND b.status = 'completed'
    AND NOT EXISTS (SELECT 1 FROM backup_disks d WHERE d.backup_id = b.id AND d.damage IS NOT NULL)`;
  const newest = db.prepare<{ contextId: string; repositoryId: string; until: string }, NewestRow>(
    `SELECT b.id, b.created_at FROM backup_jobs b WHERE ${good} AND b.created_at <= @until
      ORDER BY b.created_at DESC, b.id DESC LIMIT 1`,
  );
  const oldest = db
    .prepare<[string], string>(
      `SELECT created_at FROM backup_jobs WHERE vm_context_id = ? AND status = 'completed' ORDER BY created_at LIMIT 1`,
    )
    .pluck();
  const failures = db
    .prepare<[string, string], string | null>(
      `SELECT error FROM backup_jobs WHERE vm_context_id = ? AND created_at > ? AND status = 'failed' ORDER BY created_at DESC`,
    )
    .pluck();
  // one that could not even be begun has no row of a backup
  const newestTask = db.prepare<[string], { status: string; detail: string; claimed_at: string }>(
    `SELECT t.status, t.detail, r.claimed_at FROM policy_run_tasks t JOIN policy_runs r ON r.id = t.run_id
      WHERE t.vm_context_id = ? AND r.kind = 'backup' AND t.status IN ('failed', 'completed')
      ORDER BY t.run_id DESC LIMIT 1`,
  );
  const verified = db.prepare<[], { vm_context_id: string; verified_at: string }>(
    'SELECT * FROM vm_verified',
  );
  const failed = db
    .prepare<[], string>(
      `SELECT vm_context_id FROM policy_run_tasks WHERE status = 'failed' UNION SELECT vm_context_id FROM backup_jobs WHERE status = 'failed'`,
    )
    .pluck();
  const inMirror = db
    .prepare<[string, string], number>(
      'SELECT 1 FROM mirror_points WHERE mirror = ? AND backup_id = ? LIMIT 1',
    )
    .pluck();
  return {
    /** The newest undamaged restore point that began until then. */
    newest: (
      contextId: string,
      repositoryId: string,
      until: string,
    ): { id: string; createdAt: string } | null => {
      const row = newest.get({ contextId, repositoryId, until });
      return row ? { id: row.id, createdAt: row.created_at } : null;
    },
    oldest: (contextId: string): string | null => oldest.get(contextId) ?? null,
    /** Machines of which anything ever failed that is still recorded: of the others nobody needs to ask. */
    everFailed: (): Set<string> => new Set(failed.all()),
    /** Errors of failed backups since then as JSON, newest first. */
    failuresSince: (contextId: string, since: string): (string | null)[] => failures.all(contextId, since),
    /** How the newest part of a run of backups ended for this machine. */
    newestTask: (contextId: string): { status: string; detail: string; claimedAt: string } | null => {
      const row = newestTask.get(contextId);
      return row ? { status: row.status, detail: row.detail, claimedAt: row.claimed_at } : null;
    },
    /** When anything of each machine was last verified. */
    verified: (): Map<string, string> =>
      new Map(verified.all().map(({ vm_context_id, verified_at }) => [vm_context_id, verified_at])),
    isInMirror: (mirror: string, backupId: string): boolean => inMirror.get(mirror, backupId) !== undefined,
  };
}

export type CoverageQueries = ReturnType<typeof coverageQueries>;
