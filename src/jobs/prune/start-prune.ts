import { randomBytes } from 'node:crypto';
import { compactTimestamp } from '../../base/clock.ts';
import { SendenseError } from '../../base/sendense-error.ts';
import type { Job } from '../../catalog/jobs.ts';
import { confirmWritable } from '../../repository/open-repository.ts';
import type { ChainsChanged } from '../chains/chain-keeper.ts';
import { deletionLocks } from '../chains/deletion-locks.ts';
import { releaseLayers, retireBackups } from '../chains/retire-backup.ts';
import {
  type ConsolidateWishes,
  chainAlone,
  consolidateYielding,
  type StartConsolidateDeps,
} from '../chains/start-consolidate.ts';
import { endOf } from '../end-of-job.ts';
import type { JobContext } from '../job-work.ts';
import type { Repositories } from '../repository/repositories.ts';
import type { LockRequest } from '../resource-locks.ts';
import { type MachinePlan, type PrunePlan, type PruneRequest, planPrune } from './plan-prune.ts';

export interface PruneDeps extends StartConsolidateDeps {
  readonly repositories: Repositories;
  readonly consolidation: ConsolidateWishes;
  readonly chainsChanged: ChainsChanged;
}

/** Plans and remembers the plan, so that exactly this can be applied. @throws as `planPrune` */
export function makePrunePlan(deps: PruneDeps, request: PruneRequest): { planId: string; plan: PrunePlan } {
  const now = deps.clock.now();
  const plan = planPrune(deps, request, now);
  const planId = `plan-${compactTimestamp(now)}-${randomBytes(3).toString('hex')}`;
  deps.catalog.prunePlans.save({ id: planId, request, digest: plan.digest }, now);
  return { planId, plan };
}

/**
 * The plan as it was shown, or an error when the world is another one by now.
 * @throws PLAN_UNKNOWN, PLAN_STALE
 */
export function recallPrunePlan(deps: PruneDeps, planId: string): PrunePlan {
  const stored = deps.catalog.prunePlans.byId(planId);
  if (!stored) throw new SendenseError('PLAN_UNKNOWN', { plan: planId });
  const stale = (detail: string) => new SendenseError('PLAN_STALE', { plan: planId, detail });
  if (stored.appliedAt !== null) throw stale(`it was applied at ${stored.appliedAt}`);
  // decided as of then: what was shown is what is done, however long the reading took
  const plan = planPrune(deps, stored.request as PruneRequest, new Date(stored.createdAt));
  if (plan.digest !== stored.digest)
    throw stale('restore points, pins or damages have changed since it was made');
  return plan;
}

/**
 * Starts to do exactly what a plan showed.
 * @throws PLAN_UNKNOWN, PLAN_STALE, PRUNE_LAST_GOOD unless forced, BACKUP_BUSY, CHAIN_BUSY; nothing is deleted then
 */
export async function startPrune(deps: PruneDeps, planId: string, force: boolean): Promise<Job> {
  const first = recallPrunePlan(deps, planId);
  const jobId = deps.engine.newId();
  const release = await deps.locks.acquireSoon(jobId, first.machines.flatMap(locksOf));
  try {
    // again under the locks: now nobody changes it any more
    const plan = recallPrunePlan(deps, planId);
    const emptied = plan.machines.filter(({ deletesLastGood }) => deletesLastGood);
    if (emptied.length > 0 && !force)
      throw new SendenseError('PRUNE_LAST_GOOD', { vms: emptied.map(({ vm }) => vm.name).join(', ') });
    for (const { repository } of plan.machines) await confirmWritable(repository);
    const [only, ...others] = plan.machines;
    return deps.engine.submit(jobId, {
      kind: 'prune',
      vmName: others.length === 0 ? (only?.vm.name ?? null) : null,
      backupId: null,
      request: { plan_id: planId, force },
      run: (context) => prune(deps, planId, plan, context, release),
      ended: (job) => {
        release();
        deps.catalog.events.add({
          ...endOf(job, 'prune', {
            completed: `The prune plan ${planId} was carried out.`,
            cancelled: `Pruning by ${planId} was cancelled; what it deleted until then is gone.`,
            failed: `Pruning by ${planId} failed: `,
          }),
          subject: job.vmName,
          data: { job_id: job.id, plan_id: planId, result: job.result },
        });
        for (const { vm, repository } of plan.machines) deps.chainsChanged(vm.contextId, repository.id);
      },
    });
  } catch (error) {
    release();
    throw error;
  }
}

const doomedOf = ({ points }: MachinePlan) => points.filter(({ action }) => action === 'delete');

function locksOf(machine: MachinePlan): LockRequest[] {
  const doomed = doomedOf(machine);
  if (doomed.length === 0) return [];
  const { vm, repository } = machine;
  return [
    ...deletionLocks(repository.id, vm.contextId, vm.name),
    {
      resource: `repository:${repository.id}`,
      exclusive: false,
      busy: (holder) => new SendenseError('REPOSITORY_BUSY', { repository: repository.name, holder }),
    },
    ...doomed.map(
      ({ backupId }): LockRequest => ({
        resource: `backup:${backupId}`,
        exclusive: true,
        busy: (holder) => new SendenseError('BACKUP_BUSY', { backup: backupId, holder }),
      }),
    ),
  ];
}

/** First every restore point of the plan ends, which is quick; then the layers that are left are merged. */
async function prune(
  deps: PruneDeps,
  planId: string,
  plan: PrunePlan,
  context: JobContext,
  release: () => void,
): Promise<void> {
  const { catalog, clock } = deps;
  const changed = plan.machines.filter((machine) => doomedOf(machine).length > 0);
  const deleted: string[] = [];
  let freedBytes = 0;
  context.setPhase('deleting');
  catalog.prunePlans.applied(planId, clock.now());
  for (const machine of changed) {
    const doomed = doomedOf(machine).map(({ backupId }) => backupId);
    await retireBackups(deps, machine, doomed, async (backupId, retire) => {
      context.signal.throwIfAborted();
      context.intent('point-deleted', { backup_id: backupId });
      await retire();
      context.fact('point-deleted', { backup_id: backupId });
      deleted.push(backupId);
    });
    context.intent('layers-released');
    freedBytes += await releaseLayers(deps, machine);
    context.fact('layers-released');
    context.setResult({ deleted, freedBytes });
  }
  release();
  const merged = await mergeAll(deps, changed, context);
  context.setResult({ deleted, ...merged, freedBytes: freedBytes + merged.freedBytes });
}

async function mergeAll(deps: PruneDeps, machines: readonly MachinePlan[], context: JobContext) {
  let steps = 0;
  let movedBytes = 0;
  let freedBytes = 0;
  const postponed: string[] = [];
  for (const machine of machines) {
    const yielding = new AbortController();
    let giveBack: () => void;
    try {
      giveBack = deps.locks.acquire(`job ${context.jobId}`, [chainAlone(machine)], () => yielding.abort());
    } catch (error) {
      if (!(error instanceof SendenseError)) throw error;
      postponed.push(`${machine.vm.name}: ${error.message}`);
      continue;
    }
    try {
      const outcome = await consolidateYielding(deps, machine, deps.consolidation, context, yielding);
      steps += outcome.steps;
      movedBytes += outcome.movedBytes;
      freedBytes += outcome.freedBytes;
      postponed.push(...outcome.postponed.map((text) => `${machine.vm.name}: ${text}`));
    } finally {
      giveBack();
    }
  }
  for (const text of postponed) context.warn(`Merged later: ${text}`);
  return { steps, movedBytes, freedBytes, postponed };
}
