import type { ErrorReport } from '../base/sendense-error.ts';
import type { Db } from './open/open-catalog.ts';
import type { JobStatus } from './points/backup-rows.ts';

export type JobKind =
  | 'backup'
  | 'restore-disk'
  | 'restore-vm'
  | 'keep-live'
  | 'boot-test'
  | 'prune'
  | 'consolidate'
  | 'verify'
  | 'copy'
  | 'rebuild'
  | 'mirror-sync'
  | 'mirror-verify'
  | 'mirror-prune'
  | 'mirror-lock'
  | 'mirror-fetch'
  | 'mirror-upkeep';

export interface JobProgress {
  readonly totalBytes: number;
  readonly processedBytes: number;
  readonly transferredBytes: number;
  /** Processed bytes per second since the phase began. */
  readonly bytesPerSecond: number;
  readonly etaSeconds: number | null;
}

export const noProgress: JobProgress = {
  totalBytes: 0,
  processedBytes: 0,
  transferredBytes: 0,
  bytesPerSecond: 0,
  etaSeconds: null,
};

export interface Job {
  readonly id: string;
  readonly kind: JobKind;
  readonly status: JobStatus;
  readonly phase: string | null;
  readonly vmName: string | null;
  readonly backupId: string | null;
  readonly request: Readonly<Record<string, unknown>>;
  readonly progress: JobProgress;
  readonly warnings: readonly string[];
  /** What it found or did, for kinds that have more to say than their status. */
  readonly result: Readonly<Record<string, unknown>> | null;
  readonly error: ErrorReport | null;
  readonly createdAt: string;
  readonly startedAt: string | null;
  readonly finishedAt: string | null;
}

interface JobRow {
  id: string;
  kind: JobKind;
  status: JobStatus;
  phase: string | null;
  vm_name: string | null;
  backup_id: string | null;
  request: string;
  progress: string;
  warnings: string;
  result: string | null;
  error: string | null;
  created_at: string;
  started_at: string | null;
  finished_at: string | null;
}

export interface JobStep {
  readonly step: string;
  readonly kind: 'intent' | 'fact';
  readonly detail: Readonly<Record<string, unknown>>;
}

const toJob = (row: JobRow): Job => ({
  id: row.id,
  kind: row.kind,
  status: row.status,
  phase: row.phase,
  vmName: row.vm_name,
  backupId: row.backup_id,
  request: JSON.parse(row.request) as Record<string, unknown>,
  progress: { ...noProgress, ...(JSON.parse(row.progress) as Partial<JobProgress>) },
  warnings: JSON.parse(row.warnings) as string[],
  result: row.result === null ? null : (JSON.parse(row.result) as Record<string, unknown>),
  error: row.error === null ? null : (JSON.parse(row.error) as ErrorReport),
  createdAt: row.created_at,
  startedAt: row.started_at,
  finishedAt: row.finished_at,
});

export function jobQueries(db: Db) {
  const byId = db.prepare<[string], JobRow>('SELECT * FROM jobs WHERE id = ?');
  const list = db.prepare<Record<string, string | number | null>, JobRow>(
    `SELECT * FROM jobs WHERE (@status IS NULL OR status = @status) AND (@vm IS NULL OR vm_name = @vm)
       AND (@vms IS NULL OR vm_name IN (SELECT value FROM json_each(@vms))) ORDER BY created_at DESC, id DESC LIMIT @limit`,
  );
  const unfinished = db.prepare<[], JobRow>(
    `SELECT * FROM jobs WHERE status IN ('pending', 'running') ORDER BY created_at, id`,
  );
  const withLeftBehind = db.prepare<[], JobRow>(
    `SELECT * FROM jobs WHERE id IN (SELECT job_id FROM job_steps WHERE step = 'left-behind' GROUP BY job_id HAVING SUM(kind = 'fact') = 0)`,
  );
  const save = db.prepare(
    `INSERT INTO jobs (id, kind, status, phase, vm_name, backup_id, request, progress, warnings, result, error, created_at, started_at, finished_at)
     VALUES (@id, @kind, @status, @phase, @vmName, @backupId, @request, @progress, @warnings, @result, @error, @createdAt, @startedAt, @finishedAt)
     ON CONFLICT (id) DO UPDATE SET status = @status, phase = @phase, progress = @progress, warnings = @warnings, result = @result, error = @error,
       started_at = @startedAt, finished_at = @finishedAt`,
  );
  const newestCollection = db
    .prepare<[string], string | null>(
      `SELECT MAX(finished_at) FROM jobs WHERE kind IN ('mirror-upkeep', 'mirror-prune') AND status = 'completed'
          AND json_extract(request, '$.mirror') = ? AND json_extract(result, '$.condemned') IS NOT NULL`,
    )
    .pluck();
  const addStep = db.prepare(
    `INSERT INTO job_steps (job_id, step, kind, detail, at) VALUES (@jobId, @step, @kind, @detail, @at)`,
  );
  const steps = db.prepare<[string], { step: string; kind: 'intent' | 'fact'; detail: string }>(
    'SELECT step, kind, detail FROM job_steps WHERE job_id = ? ORDER BY id',
  );
  return {
    byId: (id: string): Job | null => {
      const row = byId.get(id);
      return row ? toJob(row) : null;
    },
    /** Newest first. @param filter `vms`: only jobs of these machines */
    list: (filter: { status?: JobStatus; vm?: string; vms?: readonly string[]; limit: number }): Job[] => {
      const { status = null, vm = null, limit } = filter;
      const vms = filter.vms === undefined ? null : JSON.stringify(filter.vms);
      return list.all({ status, vm, vms, limit }).map(toJob);
    },
    unfinished: (): Job[] => unfinished.all().map(toJob),
    /** That could not clean up in a repository which was away, and of which nobody did it since. */
    withLeftBehind: (): Job[] => withLeftBehind.all().map(toJob),
    /** When what nothing needs in a mirror was last collected. */
    newestCollection: (mirror: string): string | null => newestCollection.get(mirror) ?? null,
    save: (job: Job) =>
      save.run({
        ...job,
        request: JSON.stringify(job.request),
        progress: JSON.stringify(job.progress),
        warnings: JSON.stringify(job.warnings),
        result: job.result === null ? null : JSON.stringify(job.result),
        error: job.error === null ? null : JSON.stringify(job.error),
      }),
    addStep: (jobId: string, step: JobStep, at: Date) =>
      addStep.run({
        jobId,
        step: step.step,
        kind: step.kind,
        detail: JSON.stringify(step.detail),
        at: at.toISOString(),
      }),
    steps: (jobId: string): JobStep[] =>
      steps.all(jobId).map((row) => ({ ...row, detail: JSON.parse(row.detail) as Record<string, unknown> })),
  };
}

export type JobQueries = ReturnType<typeof jobQueries>;
