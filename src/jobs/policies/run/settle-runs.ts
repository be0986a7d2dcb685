import type { PolicyRun, RunTask } from '../../../catalog/policies/policy-runs.ts';
import type { Policy, PolicyKind } from '../../../policy/definition/policy.ts';
import { dueRun } from '../../../policy/schedules/plan-due.ts';
import { isFinished } from '../../job-state.ts';
import { timingOf } from '../timing-of.ts';
import { finishRun } from './finish-run.ts';
import { MOST_ATTEMPTS, type PolicyRunner } from './policy-runner.ts';
import type { RunnerDeps } from './runner-deps.ts';

/**
 * Visits every run that an earlier daemon left: what was done counts, what was interrupted or waited goes on. A run
 * whose next due instant has come meanwhile is ended instead: that next one does its work.
 * Jobs must have been recovered, and those that go on must have been submitted.
 */
export function settleRuns(deps: RunnerDeps, runner: PolicyRunner): void {
  for (const run of deps.catalog.policyRuns.unfinished()) {
    const policy = deps.book.has(run.policy) ? deps.book.byName(run.policy).policy : null;
    const why = policy === null ? 'the policy was removed' : whyOver(deps, policy, run);
    const open = deps.catalog.policyRuns.tasks(run.id).flatMap((task) => {
      const settled = settle(deps, task, why);
      if (settled !== task) deps.catalog.policyRuns.saveTask(run.id, settled);
      return settled.status === 'waiting' || settled.status === 'running' ? [settled] : [];
    });
    if (open.length === 0 || policy === null) finishRun(deps, run, null);
    else runner.enqueue(run, policy, run.kind as PolicyKind, open);
  }
}

function whyOver({ clock }: RunnerDeps, policy: Policy, run: PolicyRun): string | null {
  const timing = run.startedBy === 'schedule' ? timingOf(policy, run.kind as PolicyKind) : null;
  if (timing === null) return null;
  const next = dueRun(timing, {
    nowMs: clock.now().getTime(),
    sinceMs: Date.parse(run.dueAt),
    claimedMs: null,
  });
  return next === null ? null : `the next run, due at ${new Date(next.dueMs).toISOString()}, does it`;
}

/** @param why the run is over; null: it goes on */
function settle({ engine }: RunnerDeps, task: RunTask, why: string | null): RunTask {
  if (task.status === 'waiting') return why === null ? task : { ...task, status: 'skipped', detail: why };
  if (task.status !== 'running') return task;
  const job = task.jobId === null ? null : engine.get(task.jobId);
  if (job !== null && !isFinished(job.status)) return task;
  if (job?.status === 'completed') return { ...task, status: 'completed' };
  const isRefused = job !== null && job.error?.code !== 'INTERRUPTED';
  const detail = job?.error ? `${job.error.code}: ${job.error.message}` : 'its job is not known any more';
  if (isRefused || task.attempts >= MOST_ATTEMPTS) return { ...task, status: 'failed', detail };
  return why === null
    ? { ...task, status: 'waiting', jobId: null }
    : { ...task, status: 'skipped', detail: why };
}
