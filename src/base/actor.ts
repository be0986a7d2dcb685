import { AsyncLocalStorage } from 'node:async_hooks';

/** On whose behalf something is done. */
export interface Actor {
  /** `token NAME`, `uid 1000`, or `socket` when it cannot be told who opened it. */
  readonly who: string;
  /** An address, or `socket`. */
  readonly from: string;
}

const actors = new AsyncLocalStorage<Actor>();

/** Whatever `work` does, and whatever that starts, is done on behalf of this one. */
export const actingAs = <T>(actor: Actor, work: () => T): T => actors.run(actor, work);

/** Null: the appliance itself. */
export const currentActor = (): Actor | null => actors.getStore() ?? null;

/** Keeps work that waits for its turn from being done on behalf of whoever made room for it. */
export const asNow = (): (<T>(work: () => T) => T) => AsyncLocalStorage.snapshot();

const jobs = new AsyncLocalStorage<string>();

/** Whatever `work` does, and whatever that starts, belongs to this job: each line of the log says so. */
export const inJob = <T>(jobId: string, work: () => T): T => jobs.run(jobId, work);

/** Null: no job. */
export const currentJob = (): string | null => jobs.getStore() ?? null;
