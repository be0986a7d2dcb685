import { EventEmitter } from 'node:events';
import pLimit from 'p-limit';
import { asNow, inJob } from '../base/actor.ts';
import type { Clock } from '../base/clock.ts';
import { newJobId } from '../base/ids.ts';
import type { Logger } from '../base/logger.ts';
import { type ErrorReport, hasCode, SendenseError, toSendenseError } from '../base/sendense-error.ts';
import type { EventLog } from '../catalog/events/events.ts';
import { type Job, type JobQueries, type JobStep, noProgress } from '../catalog/jobs.ts';
import { JobSaver } from './job-saver.ts';
import { isFinished, type JobEvent, nextStatus } from './job-state.ts';
import type { JobContext, JobWork } from './job-work.ts';

/** How often progress reaches the database; watchers get every step. */
const SAVE_PROGRESS_MS = 1_000;

/** Verifying and merging may go on beside each other; both give way. */
const BACKGROUND_JOBS = 2;
interface EngineDeps {
  readonly jobs: JobQueries;
  readonly events: EventLog;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Asked again when the settings have changed. */
  readonly maxConcurrent: () => number;
  /** Sees every step as it is journaled; lets a test stop the daemon exactly there. */
  readonly onStep?: (step: string) => void;
}

interface Running {
  job: Job;
  readonly abort: AbortController;
  /** Why it was aborted: by a person or by the end of the daemon. */
  interrupted: boolean;
  /** It stays unfinished, for the next daemon. */
  isSuspended: boolean;
  readonly done: Promise<Job>;
  savedAt: number;
}

/** Runs jobs, a few at a time, and is the only one that changes their state. */
export class JobEngine {
  readonly #deps: EngineDeps;
  readonly #limit;
  readonly #background = pLimit(BACKGROUND_JOBS);
  readonly #aside = pLimit(1);
  readonly #running = new Map<string, Running>();
  readonly #saver: JobSaver;
  /** `job` on every change of any job. */
  readonly changes = new EventEmitter<{ job: [Job] }>();
  #closed = false;

  constructor(deps: EngineDeps) {
    this.#deps = deps;
    this.#saver = new JobSaver(deps.jobs, deps.logger);
    this.#limit = pLimit(deps.maxConcurrent());
    this.changes.setMaxListeners(0);
  }

  newId(): string {
    return newJobId(this.#deps.clock.now());
  }

  /** Work that waits begins now where there is more room; what runs is never stopped for less. */
  settingsChanged(): void {
    this.#limit.concurrency = this.#deps.maxConcurrent();
  }

  /** True when no job runs or waits. */
  get isIdle(): boolean {
    return this.#running.size === 0;
  }

  /**
   * Stores the job as pending and starts it as soon as there is room.
   * @param earlier what an earlier daemon left unfinished; it goes on under its id and its history
   */
  submit(jobId: string, work: JobWork, earlier: Job | null = null): Job {
    if (this.#closed) throw new SendenseError('INTERRUPTED');
    const job: Job = earlier ?? {
      id: jobId,
      kind: work.kind,
      status: 'pending',
      phase: null,
      vmName: work.vmName,
      backupId: work.backupId,
      request: work.request,
      progress: noProgress,
      warnings: [],
      result: null,
      error: null,
      createdAt: this.#deps.clock.now().toISOString(),
      startedAt: null,
      finishedAt: null,
    };
    this.#deps.jobs.save(job);
    const { promise, resolve } = Promise.withResolvers<Job>();
    const running: Running = {
      job,
      abort: new AbortController(),
      interrupted: false,
      isSuspended: false,
      done: promise,
      savedAt: 0,
    };
    this.#running.set(jobId, running);
    this.changes.emit('job', job);
    const lane =
      work.lane ?? (work.isBackground ? this.#background : work.isAside ? this.#aside : this.#limit);
    const onBehalf = asNow();
    void lane(() => onBehalf(() => inJob(jobId, () => this.#run(running, work)))).then(resolve);
    return job;
  }

  /** The freshest view: from memory while it runs. */
  get(jobId: string): Job | null {
    return this.#running.get(jobId)?.job ?? this.#saver.unsaved(jobId) ?? this.#deps.jobs.byId(jobId);
  }

  /** Resolves when the job has ended; at once when it already has. @throws JOB_UNKNOWN */
  async wait(jobId: string): Promise<Job> {
    const running = this.#running.get(jobId);
    if (running) return await running.done;
    const job = this.get(jobId);
    if (!job) throw new SendenseError('JOB_UNKNOWN', { job: jobId });
    return job;
  }

  /** Asks it to stop; it then cleans up and ends as cancelled. @throws JOB_UNKNOWN, JOB_FINISHED */
  cancel(jobId: string): Job {
    const job = this.get(jobId);
    if (!job) throw new SendenseError('JOB_UNKNOWN', { job: jobId });
    const running = this.#running.get(jobId);
    if (!running || isFinished(job.status))
      throw new SendenseError('JOB_FINISHED', { job: jobId, status: job.status });
    running.abort.abort();
    return running.job;
  }

  /** Stops everything and waits until it is cleaned up. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#saver.close();
    const all = [...this.#running.values()];
    for (const running of all) {
      running.interrupted = true;
      // a person's cancel has no reason: work that can be gone on with is kept only then when it was not that
      running.abort.abort(new SendenseError('INTERRUPTED'));
    }
    await Promise.all(all.map((running) => running.done));
  }

  async #run(running: Running, work: JobWork): Promise<Job> {
    let failure: SendenseError | null = null;
    try {
      if (running.abort.signal.aborted) throw new SendenseError('CANCELLED');
      if (running.job.status === 'pending')
        this.#advance(running, 'start', { startedAt: this.#deps.clock.now().toISOString() });
      await work.run(this.#contextOf(running));
    } catch (error) {
      failure = toSendenseError(error);
      if (failure.code === 'INTERNAL')
        this.#deps.logger.error(
          { job: running.job.id, err: failure.cause ?? failure },
          'a job failed unexpectedly',
        );
    }
    if (failure !== null && running.interrupted && running.isSuspended) {
      this.#running.delete(running.job.id);
      return running.job;
    }
    this.#finish(running, failure);
    try {
      work.ended(running.job);
    } catch (error) {
      this.#deps.logger.error({ job: running.job.id, err: error }, 'the end of a job could not be recorded');
    }
    this.#running.delete(running.job.id);
    this.changes.emit('job', running.job);
    return running.job;
  }

  #finish(running: Running, failure: SendenseError | null): void {
    const finishedAt = this.#deps.clock.now().toISOString();
    if (failure === null) {
      this.#advance(running, 'complete', { finishedAt, phase: null });
      return;
    }
    const wasAsked = running.abort.signal.aborted && (hasCode(failure, 'CANCELLED') || running.interrupted);
    const report =
      wasAsked && running.interrupted ? new SendenseError('INTERRUPTED').report() : failure.report();
    this.#advance(running, wasAsked && !running.interrupted ? 'cancel' : 'fail', {
      finishedAt,
      error: report,
    });
  }

  #advance(running: Running, event: JobEvent, change: Partial<Job>): void {
    const status = nextStatus(running.job.status, event);
    if (status === null)
      throw new SendenseError('INTERNAL', {
        detail: `job ${running.job.id} cannot ${event} while ${running.job.status}`,
      });
    this.#update(running, { ...change, status }, true);
  }

  #update(running: Running, change: Partial<Job>, save: boolean): void {
    running.job = { ...running.job, ...change };
    const now = Date.now();
    if (save || now - running.savedAt >= SAVE_PROGRESS_MS) {
      running.savedAt = now;
      this.#saver.save(running.job);
    }
    if (!isFinished(running.job.status)) this.changes.emit('job', running.job);
  }

  #contextOf(running: Running): JobContext {
    const journal = (step: JobStep) => {
      this.#deps.jobs.addStep(running.job.id, step, this.#deps.clock.now());
      this.#deps.onStep?.(`${step.kind}:${step.step}`);
    };
    return {
      jobId: running.job.id,
      signal: running.abort.signal,
      setPhase: (phase) => this.#update(running, { phase }, true),
      setProgress: (progress) => this.#update(running, { progress }, false),
      warn: (text) => this.#update(running, { warnings: [...running.job.warnings, text] }, true),
      setResult: (result) => this.#update(running, { result }, true),
      suspend: () => {
        running.isSuspended = true;
      },
      intent: (step, detail = {}) => journal({ step, kind: 'intent', detail }),
      fact: (step, detail = {}) => journal({ step, kind: 'fact', detail }),
    };
  }
}

/** A finished job's failure as an exception again. */
export function failureOf(report: ErrorReport | null): SendenseError {
  return report
    ? new SendenseError(report.code, report.fields)
    : new SendenseError('INTERNAL', { detail: 'it failed without a reason' });
}
