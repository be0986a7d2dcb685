import { join } from 'node:path';
import type { Config } from '../../base/config/config-schema.ts';
import type { HomePaths } from '../../base/home/home-paths.ts';
import type { PolicyDeps } from '../../jobs/policies/manage-policies.ts';
import { PolicyBook } from '../../jobs/policies/policy-book.ts';
import { PolicyRunner } from '../../jobs/policies/run/policy-runner.ts';
import type { RunnerDeps } from '../../jobs/policies/run/runner-deps.ts';
import { settleRuns } from '../../jobs/policies/run/settle-runs.ts';
import { TaskQueue } from '../../jobs/policies/run/task-queue.ts';
import { Scheduler } from '../../jobs/policies/scheduler.ts';

interface PolicyWiring extends Omit<RunnerDeps, 'book' | 'queue' | 'limits' | 'hookTimeoutMs'> {
  readonly paths: HomePaths;
  readonly config: Config;
}

const DAY_MS = 24 * 3600 * 1000;

/** Policies, what runs them, and the record of their runs. */
export function wirePolicies({ paths, config, ...wiring }: PolicyWiring): {
  readonly routeDeps: PolicyDeps;
  /** Jobs of the daemon before must have been recovered, and those that go on submitted. */
  readonly start: () => void;
  /** Begins nothing any more; to be called before the engine ends its jobs. */
  readonly close: () => void;
} {
  const { catalog, clock, logger } = wiring;
  const book = new PolicyBook(join(paths.stateFolder, 'policies'), clock);
  const deps: RunnerDeps = {
    ...wiring,
    book,
    queue: new TaskQueue(),
    hookTimeoutMs: config.jobs.hook_timeout_s * 1000,
    limits: {
      get backups() {
        return config.jobs.max_concurrent;
      },
      get perRepository() {
        return config.policies.max_per_repository;
      },
      get perSource() {
        return config.policies.max_per_source;
      },
      bootTests: config.boot_test.max,
    },
  };
  const runner = new PolicyRunner(deps);
  const scheduler = new Scheduler({
    ...{ book, clock, logger, runs: catalog.policyRuns },
    begin: (policy, kind, { dueMs, missed }) =>
      void runner.start(policy, kind, { dueAt: new Date(dueMs), startedBy: 'schedule', missed }),
  });
  let isStarted = false;
  const start = () => {
    for (const { file, detail } of book.broken)
      catalog.events.add({
        kind: 'policy.unreadable',
        severity: 'error',
        subject: null,
        message: `The policy in ${file} cannot be read, so nothing of it is done: ${detail}`,
        data: { file },
      });
    catalog.policyRuns.forget(new Date(clock.now().getTime() - config.policies.keep_runs_days * DAY_MS));
    settleRuns(deps, runner);
    isStarted = true;
    scheduler.start();
  };
  const close = () => {
    scheduler.stop();
    runner.close();
  };
  const policiesChanged = () => {
    if (!isStarted) return;
    scheduler.stop();
    scheduler.start();
  };
  return { routeDeps: { ...deps, runner, policiesChanged }, start, close };
}
