import type { Db } from '../open/open-catalog.ts';

export type RunOutcome = 'completed' | 'partly' | 'failed' | 'skipped' | 'interrupted';
export type RunStarter = 'schedule' | 'after-backup' | 'systemd' | 'operator';
export type TaskStatus = 'waiting' | 'running' | 'completed' | 'failed' | 'skipped';

/** One due instant of one kind of work of a policy, and what came of it. */
export interface PolicyRun {
  readonly id: number;
  readonly policy: string;
  readonly kind: string;
  readonly dueAt: string;
  readonly startedBy: RunStarter;
  readonly missed: number;
  readonly claimedAt: string;
  readonly finishedAt: string | null;
  readonly outcome: RunOutcome | null;
  readonly detail: string;
}

/** The part of a run that one job does. */
export interface RunTask {
  readonly contextId: string;
  readonly vmName: string;
  readonly target: string;
  readonly status: TaskStatus;
  /** How often it was begun. */
  readonly attempts: number;
  readonly jobId: string | null;
  readonly detail: string;
}

export type TaskCounts = Readonly<Record<TaskStatus, number>>;

interface RunRow {
  id: number;
  policy: string;
  kind: string;
  due_at: string;
  started_by: RunStarter;
  missed: number;
  claimed_at: string;
  finished_at: string | null;
  outcome: RunOutcome | null;
  detail: string;
}

interface TaskRow {
  vm_context_id: string;
  vm_name: string;
  target: string;
  status: TaskStatus;
  attempts: number;
  job_id: string | null;
  detail: string;
}

const toRun = (row: RunRow): PolicyRun => ({
  id: row.id,
  policy: row.policy,
  kind: row.kind,
  dueAt: row.due_at,
  startedBy: row.started_by,
  missed: row.missed,
  claimedAt: row.claimed_at,
  finishedAt: row.finished_at,
  outcome: row.outcome,
  detail: row.detail,
});

const toTask = (row: TaskRow): RunTask => ({
  contextId: row.vm_context_id,
  vmName: row.vm_name,
  target: row.target,
  status: row.status,
  attempts: row.attempts,
  jobId: row.job_id,
  detail: row.detail,
});

export function policyRunQueries(db: Db) {
  const claim = db.prepare<Record<string, string | number>>(
    `INSERT OR IGNORE INTO policy_runs (policy, kind, due_at, started_by, missed, claimed_at)
     VALUES (@policy, @kind, @dueAt, @startedBy, @missed, @claimedAt)`,
  );
  const addTask = db.prepare<Record<string, string | number>>(
    `INSERT OR IGNORE INTO policy_run_tasks (run_id, vm_context_id, vm_name, target, status)
     VALUES (@runId, @contextId, @vmName, @target, 'waiting')`,
  );
  const byId = db.prepare<[number], RunRow>('SELECT * FROM policy_runs WHERE id = ?');
  const newestClaim = db
    .prepare<[string, string, string], string | null>(
      `SELECT MAX(due_at) FROM policy_runs WHERE policy = ? AND kind = ? AND due_at <= ? AND started_by = 'schedule'`,
    )
    .pluck();
  const unfinished = db.prepare<[], RunRow>('SELECT * FROM policy_runs WHERE outcome IS NULL ORDER BY id');
  const list = db.prepare<{ policy: string | null; limit: number }, RunRow>(
    'SELECT * FROM policy_runs WHERE @policy IS NULL OR policy = @policy ORDER BY id DESC LIMIT @limit',
  );
  const finish = db.prepare<[string, string, string, number]>(
    'UPDATE policy_runs SET outcome = ?, detail = ?, finished_at = ? WHERE id = ? AND outcome IS NULL',
  );
  const tasks = db.prepare<[number], TaskRow>(
    'SELECT * FROM policy_run_tasks WHERE run_id = ? ORDER BY vm_name, target',
  );
  const counts = db.prepare<[number], { status: TaskStatus; count: number }>(
    'SELECT status, count(*) AS count FROM policy_run_tasks WHERE run_id = ? GROUP BY status',
  );
  const saveTask = db.prepare<Record<string, string | number | null>>(
    `UPDATE policy_run_tasks SET status = @status, attempts = @attempts, job_id = @jobId, detail = @detail
      WHERE run_id = @runId AND vm_context_id = @contextId AND target = @target`,
  );
  // what is due next is found from the newest run of each kind, so that one stays
  const forget = db.prepare<[string]>(
    `DELETE FROM policy_runs WHERE outcome IS NOT NULL AND claimed_at < ?
       AND id NOT IN (SELECT MAX(id) FROM policy_runs WHERE started_by = 'schedule' GROUP BY policy, kind)`,
  );
  return {
    /** Takes a due instant. @returns null when somebody took it before */
    claim: db.transaction(
      (
        run: Pick<PolicyRun, 'policy' | 'kind' | 'dueAt' | 'startedBy' | 'missed' | 'claimedAt'>,
        wanted: readonly Pick<RunTask, 'contextId' | 'vmName' | 'target'>[],
      ): PolicyRun | null => {
        const { changes, lastInsertRowid } = claim.run({ ...run });
        if (changes === 0) return null;
        const runId = Number(lastInsertRowid);
        for (const { contextId, vmName, target } of wanted) addTask.run({ runId, contextId, vmName, target });
        const row = byId.get(runId);
        return row ? toRun(row) : null;
      },
    ),
    byId: (id: number): PolicyRun | null => {
      const row = byId.get(id);
      return row ? toRun(row) : null;
    },
    /** The newest instant up to `until` that a schedule took. */
    newestClaim: (policy: string, kind: string, until: string): string | null =>
      newestClaim.get(policy, kind, until) ?? null,
    /** Oldest first. */
    unfinished: (): PolicyRun[] => unfinished.all().map(toRun),
    /** Newest first; null: of all policies. */
    list: (policy: string | null, limit: number): PolicyRun[] => list.all({ policy, limit }).map(toRun),
    finish: (id: number, outcome: RunOutcome, detail: string, at: Date) =>
      finish.run(outcome, detail, at.toISOString(), id),
    tasks: (runId: number): RunTask[] => tasks.all(runId).map(toTask),
    counts: (runId: number): TaskCounts => ({
      ...{ waiting: 0, running: 0, completed: 0, failed: 0, skipped: 0 },
      ...Object.fromEntries(counts.all(runId).map(({ status, count }) => [status, count])),
    }),
    saveTask: (runId: number, { vmName: _name, ...task }: RunTask) => saveTask.run({ runId, ...task }),
    /** Removes what is older, but for what planning still needs. */
    forget: (before: Date) => forget.run(before.toISOString()),
  };
}

export type PolicyRunQueries = ReturnType<typeof policyRunQueries>;
