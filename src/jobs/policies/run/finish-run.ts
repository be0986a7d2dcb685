import type { SendenseError } from '../../../base/sendense-error.ts';
import type { PolicyRun, RunOutcome, TaskCounts } from '../../../catalog/policies/policy-runs.ts';
import type { RunnerDeps } from './runner-deps.ts';

/** Of the parts of a run that has ended. Pure. */
export function outcomeOf({ completed, failed, skipped, waiting, running }: TaskCounts): RunOutcome {
  const bad = failed + skipped + waiting + running;
  if (bad === 0) return 'completed';
  return completed === 0 ? 'failed' : 'partly';
}

/**
 * Records the end of a run and says it.
 * @param hookFailure why the command after it failed
 */
export function finishRun(
  { catalog, clock }: Pick<RunnerDeps, 'catalog' | 'clock'>,
  run: PolicyRun,
  hookFailure: SendenseError | null,
): RunOutcome {
  const counts = catalog.policyRuns.counts(run.id);
  const fromTasks = outcomeOf(counts);
  const outcome = fromTasks === 'completed' && hookFailure !== null ? 'partly' : fromTasks;
  const total = counts.completed + counts.failed + counts.skipped + counts.waiting + counts.running;
  const first = catalog.policyRuns.tasks(run.id).find(({ status }) => status === 'failed');
  const why = first ? `; ${first.vmName}: ${first.detail}` : '';
  const hook = hookFailure === null ? '' : `; ${hookFailure.message}`;
  const detail = `${counts.completed} of ${total} done${why}${hook}`;
  catalog.policyRuns.finish(run.id, outcome, detail, clock.now());
  catalog.events.add({
    kind: `policy.run.${outcome}`,
    severity: outcome === 'completed' ? 'info' : 'error',
    subject: null,
    message: `The ${run.kind} run ${run.id} of the policy ${run.policy} is over: ${detail}.`,
    data: { policy: run.policy, kind: run.kind, run_id: run.id, ...counts },
  });
  return outcome;
}
