import type { Logger } from '../base/logger.ts';
import { messageOf } from '../base/sendense-error.ts';
import type { Job, JobQueries } from '../catalog/jobs.ts';

/** How long to wait for room in the catalogue. */
const SAVE_AGAIN_MS = 5_000;

/**
 * A full disk must not end the daemon, nor the job that is about to free it: what could not be written stays in
 * memory and is written as soon as there is room.
 */
export class JobSaver {
  readonly #jobs: JobQueries;
  readonly #logger: Logger;
  /** Newest state of jobs that the catalogue could not take. */
  readonly #unsaved = new Map<string, Job>();
  #isClosed = false;

  constructor(jobs: JobQueries, logger: Logger) {
    this.#jobs = jobs;
    this.#logger = logger;
  }

  /** What the catalogue has not got yet. */
  unsaved(jobId: string): Job | undefined {
    return this.#unsaved.get(jobId);
  }

  /** From now on nothing is tried again. */
  close(): void {
    this.#isClosed = true;
  }

  save(job: Job): void {
    try {
      this.#jobs.save(job);
      this.#unsaved.delete(job.id);
    } catch (error) {
      this.#logger.error({ job: job.id, error: messageOf(error) }, 'the state of a job cannot be written');
      this.#unsaved.set(job.id, job);
      if (this.#isClosed) return;
      setTimeout(() => {
        const unsaved = this.#unsaved.get(job.id);
        if (unsaved) this.save(unsaved);
      }, SAVE_AGAIN_MS).unref();
    }
  }
}
