import { SendenseError } from '../../base/sendense-error.ts';
import type { Job } from '../../catalog/jobs.ts';
import { endOf } from '../end-of-job.ts';
import type { JobEngine } from '../job-engine.ts';
import type { JobContext } from '../job-work.ts';
import { chainResource, type LockRequest } from '../resource-locks.ts';
import {
  type ConsolidateDeps,
  type ConsolidateOptions,
  type ConsolidateResult,
  consolidate,
} from './consolidate.ts';
import type { MachinePlace } from './retire-backup.ts';

/** Whoever runs it adds how it is stopped. */
export type ConsolidateWishes = Omit<ConsolidateOptions, 'giveWay'>;

export interface StartConsolidateDeps extends ConsolidateDeps {
  readonly engine: JobEngine;
}

/** What a consolidation says when it ended early for somebody who goes first. */
export interface ConsolidateOutcome extends ConsolidateResult {
  readonly gaveWay: boolean;
}

/** The chain of a machine for oneself. */
export const chainAlone = ({ vm, repository }: MachinePlace): LockRequest => ({
  resource: chainResource(repository.id, vm.contextId),
  exclusive: true,
  busy: (holder) => new SendenseError('CHAIN_BUSY', { vm: vm.name, holder }),
});

/**
 * Starts a consolidation of the chains of one machine. It gives way to backups, restores and deletions, and goes on
 * later.
 * @throws CHAIN_BUSY, REPOSITORY_BUSY
 */
export function startConsolidate(
  deps: StartConsolidateDeps,
  place: MachinePlace,
  options: ConsolidateWishes,
  onEnd: (job: Job, outcome: ConsolidateOutcome | null) => void = () => undefined,
): Job {
  const { vm, repository } = place;
  const jobId = deps.engine.newId();
  const yielding = new AbortController();
  const lock = () =>
    deps.locks.acquire(`job ${jobId}`, [chainAlone(place), inUse(place)], () => yielding.abort());
  lock()(); // who cannot begin now is told at once
  let outcome: ConsolidateOutcome | null = null;
  return deps.engine.submit(jobId, {
    kind: 'consolidate',
    isBackground: true,
    vmName: vm.name,
    backupId: null,
    request: { context_id: vm.contextId, repository: repository.name, repository_id: repository.id },
    run: async (context) => {
      // not before its turn: a job that waits in the queue could not give way
      const release = lock();
      try {
        outcome = await consolidateYielding(deps, place, options, context, yielding);
      } finally {
        release();
      }
      context.setResult({ ...outcome });
    },
    ended: (job) => {
      // a failure is said; success says each step by itself
      if (job.status === 'failed' && job.error?.code !== 'CHAIN_BUSY')
        deps.catalog.events.add({
          ...endOf(job, 'consolidate', {
            completed: '',
            cancelled: '',
            failed: `Shortening the chains of "${vm.name}" failed; every restore point is as before: `,
          }),
          subject: vm.name,
          data: { job_id: job.id },
        });
      onEnd(job, outcome);
    },
  });
}

/** A consolidation that ends well when it is asked to give way. @throws as `consolidate` */
export async function consolidateYielding(
  deps: ConsolidateDeps,
  place: MachinePlace,
  options: ConsolidateWishes,
  context: JobContext,
  yielding: AbortController,
): Promise<ConsolidateOutcome> {
  const signal = AbortSignal.any([context.signal, yielding.signal]);
  try {
    return {
      ...(await consolidate(
        deps,
        place,
        { ...options, giveWay: () => yielding.abort() },
        { ...context, signal },
      )),
      gaveWay: false,
    };
  } catch (error) {
    if (!yielding.signal.aborted || context.signal.aborted) throw error;
    const postponed = ['it gave way to other work on this machine and goes on later'];
    return { steps: 0, movedBytes: 0, freedBytes: 0, postponed, gaveWay: true };
  }
}

const inUse = ({ repository }: MachinePlace): LockRequest => ({
  resource: `repository:${repository.id}`,
  exclusive: false,
  busy: (holder) => new SendenseError('REPOSITORY_BUSY', { repository: repository.name, holder }),
});
