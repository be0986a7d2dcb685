import { hasCode, messageOf, SendenseError, toSendenseError } from '../../../base/sendense-error.ts';
import type { Job } from '../../../catalog/jobs.ts';
import type { PolicyRun, RunStarter, RunTask } from '../../../catalog/policies/policy-runs.ts';
import { type Policy, type PolicyKind, rulesOf } from '../../../policy/definition/policy.ts';
import { isOpen } from '../../../policy/schedules/window.ts';
import { isFinished } from '../../job-state.ts';
import { finishRun } from './finish-run.ts';
import { limitsOf, planTasks, uploadsFirst } from './plan-tasks.ts';
import { runPolicyHook } from './policy-hook.ts';
import type { RunnerDeps } from './runner-deps.ts';
import { startMirrors, startTask } from './start-task.ts';

/** Somebody else is at the machine: a run waits so long for it. */
const PATIENCE_MS = 30 * 60_000;
/** A job that a restart of the daemon ended is begun once more, not for ever. */
export const MOST_ATTEMPTS = 3;

export interface RunOrder {
  readonly dueAt: Date;
  readonly startedBy: RunStarter;
  readonly missed: number;
}

/** A run that goes on in this daemon. */
interface LiveRun {
  readonly run: PolicyRun;
  readonly policy: Policy;
  readonly kind: PolicyKind;
  left: number;
  /** The command before the first job: run once, whoever comes first. */
  before: Promise<SendenseError | null> | null;
}

/** Carries out the runs of policies: claims a due instant, queues its parts, and says how it ended. */
export class PolicyRunner {
  readonly #deps: RunnerDeps;
  readonly #live = new Map<number, LiveRun>();
  #isClosing = false;

  constructor(deps: RunnerDeps) {
    this.#deps = deps;
  }

  /** The run of this kind that goes on; null: none. */
  going(policy: string, kind: PolicyKind): PolicyRun | null {
    for (const { run } of this.#live.values()) if (run.policy === policy && run.kind === kind) return run;
    return null;
  }

  /**
   * Claims the due instant and begins. A run of the same kind that still goes on is not joined by a second one.
   * @returns null when the instant was claimed before
   * @throws REPOSITORY_UNKNOWN
   */
  start(policy: Policy, kind: PolicyKind, order: RunOrder): PolicyRun | null {
    const { catalog, clock } = this.#deps;
    const going = this.going(policy.name, kind);
    let refusal = going ? `the run ${going.id}, due at ${going.dueAt}, still went on` : 'no machine is meant';
    let tasks: ReturnType<typeof planTasks> = [];
    try {
      if (going === null) tasks = planTasks(this.#deps, policy, kind);
    } catch (error) {
      if (order.startedBy === 'operator') throw error;
      refusal = messageOf(error);
    }
    const now = clock.now();
    const run = catalog.policyRuns.claim(
      {
        ...{ policy: policy.name, kind, startedBy: order.startedBy, missed: order.missed },
        ...{ dueAt: order.dueAt.toISOString(), claimedAt: now.toISOString() },
      },
      tasks,
    );
    if (run === null) return null;
    if (tasks.length === 0) {
      catalog.policyRuns.finish(run.id, 'skipped', refusal, now);
      catalog.events.add({
        kind: 'policy.run.skipped',
        severity: 'warning',
        subject: null,
        message: `The ${kind} run of the policy ${policy.name} due at ${run.dueAt} was skipped: ${refusal.replace(/\.$/, '')}.`,
        data: { policy: policy.name, kind, run_id: run.id },
      });
      return catalog.policyRuns.byId(run.id);
    }
    this.enqueue(run, policy, kind, catalog.policyRuns.tasks(run.id));
    return run;
  }

  /** Queues what is left of a run. Tasks that run already are followed to their end. */
  enqueue(run: PolicyRun, policy: Policy, kind: PolicyKind, tasks: readonly RunTask[]): void {
    const { queue, catalog, clock, limits } = this.#deps;
    const live: LiveRun = { run, policy, kind, left: tasks.length, before: null };
    this.#live.set(run.id, live);
    // who asked in person does not wait for the night
    const window = run.startedBy === 'operator' ? null : policy.window;
    queue.add(
      uploadsFirst(tasks).map((task) => {
        let triedMs: number | null = null;
        return {
          priority: policy.priority,
          limits: limitsOf(limits, policy, kind, task, catalog.vms.byContext(task.contextId)),
          mayBegin: () =>
            task.status === 'running' || isOpen(window, clock.now().getTime(), policy.time_zone),
          run: async () => {
            triedMs ??= performance.now();
            const mayWait = performance.now() - triedMs < PATIENCE_MS;
            return await this.#work(live, task, mayWait);
          },
        };
      }),
    );
  }

  /** Begins nothing any more. What runs is ended by the engine and settled by the next daemon. */
  close(): void {
    this.#isClosing = true;
    this.#deps.queue.close();
  }

  async #work(live: LiveRun, task: RunTask, mayWait: boolean): Promise<'done' | 'again'> {
    try {
      const ended = await this.#attempt(live, task, mayWait);
      if (ended === 'again') return 'again';
      if (this.#isClosing && ended.status !== 'completed') return 'done';
      this.#deps.catalog.policyRuns.saveTask(live.run.id, ended);
    } catch (error) {
      // such as a catalogue on a full disk: the task stays as it is and is settled at the next start
      const facts = { run: live.run.id, vm: task.vmName, error: messageOf(error) };
      this.#deps.logger.error(facts, 'a part of a run of a policy was not recorded');
    }
    live.left -= 1;
    if (live.left === 0) await this.#finish(live);
    return 'done';
  }

  async #attempt(live: LiveRun, task: RunTask, mayWait: boolean): Promise<RunTask | 'again'> {
    const { catalog, engine } = this.#deps;
    const { run, policy, kind } = live;
    const failed = (error: SendenseError, jobId: string | null): RunTask => ({
      ...{ ...task, status: 'failed', jobId },
      detail: `${error.code}: ${error.message}`,
    });
    let job: Job | null = task.status === 'running' && task.jobId !== null ? engine.get(task.jobId) : null;
    const attempts = task.attempts + (job === null ? 1 : 0);
    if (job === null) {
      live.before ??= kind === 'backup' ? runPolicyHook(this.#deps, policy, 'before') : Promise.resolve(null);
      const refused = await live.before;
      if (refused !== null) return failed(refused, null);
      if (this.#isClosing) return task;
      try {
        job = await startTask(this.#deps, policy, kind, task, Date.parse(run.dueAt));
      } catch (error) {
        const failure = toSendenseError(error);
        if (isBusy(failure) && mayWait) return 'again';
        if (hasCode(failure, 'INTERRUPTED')) return task;
        return failed(failure, null);
      }
      if (job === null) return { ...task, status: 'completed', attempts, detail: 'nothing to do' };
      catalog.policyRuns.saveTask(run.id, { ...task, status: 'running', attempts, jobId: job.id });
    }
    const ended = isFinished(job.status) ? job : await engine.wait(job.id);
    if (ended.status !== 'completed') return { ...failed(errorOf(ended), ended.id), attempts };
    if (kind === 'backup' && ended.backupId !== null)
      startMirrors(this.#deps, policy, ended.backupId, task.vmName);
    return { ...task, status: 'completed', attempts, jobId: ended.id };
  }

  async #finish(live: LiveRun): Promise<void> {
    const { run, policy, kind } = live;
    if (this.#isClosing) return;
    const hookFailure =
      live.before && kind === 'backup' ? await runPolicyHook(this.#deps, policy, 'after') : null;
    const outcome = finishRun(this.#deps, run, hookFailure);
    this.#live.delete(run.id);
    const prunesAfter = kind === 'backup' && policy.prune === null && rulesOf(policy) !== null;
    if (!prunesAfter || outcome === 'failed') return;
    try {
      this.start(policy, 'prune', { dueAt: new Date(run.dueAt), startedBy: 'after-backup', missed: 0 });
    } catch (error) {
      this.#deps.logger.error({ policy: policy.name, error: messageOf(error) }, 'nothing was pruned');
    }
  }
}

const isBusy = ({ entry }: SendenseError): boolean => entry.exit === 11;

const errorOf = ({ error, status }: Job): SendenseError =>
  error
    ? new SendenseError(error.code, error.fields)
    : new SendenseError('INTERNAL', { detail: `the job is ${status} without a reason` });
