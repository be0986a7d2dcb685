import { pathExists } from 'fs-extra/esm';
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import { messageOf, SendenseError } from '../base/sendense-error.ts';
import { runHook } from '../capture/hooks.ts';
import { areImagesUnchanged } from '../capture/image/image-memory.ts';
import type { SnapshotLeftover } from '../capture/source.ts';
import type { Catalog } from '../catalog/catalog.ts';
import type { Job, JobStep } from '../catalog/jobs.ts';
import type { Vm } from '../catalog/vms.ts';
import { layerFiles, layout } from '../repository/layout.ts';
import type { Repository } from '../repository/open-repository.ts';
import { removePartial } from '../restore/whole-disk/write-file.ts';
import { machineRef } from './backup/plan/machine-ref.ts';
import { canResume, type Resumption, readResumption } from './backup/resume/resumption.ts';
import { recordEnd } from './backup/start-backup.ts';
import { nextStatus } from './job-state.ts';
import type { Repositories } from './repository/repositories.ts';
import { settleAttempts } from './repository/scan/unpublished.ts';

export interface RecoverDeps {
  readonly catalog: Catalog;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly repositories: Repositories;
  readonly hookTimeoutMs: number;
  /** Ends what a snapshot left at a source that outlives this daemon. */
  readonly cleanUpSource: (vm: Vm, leftover: SnapshotLeftover) => Promise<void>;
  /** Agents can be asked, so their transfers may go on. */
  readonly hasAgents: boolean;
}

/**
 * Visits every job that a dead daemon left unfinished. A backup whose manifest stands is completed; of any other
 * every file that its intents name is removed. Repeating it after another crash is fine.
 * @returns those that are left as they are, because the new daemon can go on with them
 */
export async function recoverJobs(deps: RecoverDeps): Promise<ResumableJob[]> {
  const resumable: ResumableJob[] = [];
  const unfinished = deps.catalog.jobs.unfinished();
  for (const job of unfinished) {
    try {
      const resumption = await resumptionOf(deps, job);
      if (resumption !== null) resumable.push({ job, resumption });
      else if (job.kind === 'backup') await recoverBackup(deps, job);
      else if (job.kind === 'copy' || job.kind === 'mirror-fetch') await recoverCopies(deps, job);
      else if (job.kind === 'restore-disk' || job.kind === 'restore-vm') await recoverRestore(deps, job);
      // what others began, the repository itself knows and has settled when it was opened
      else end(deps, job, 'fail');
    } catch (error) {
      // this job stays unfinished and is visited again at the next start; the others must not wait for it
      deps.catalog.events.add({
        kind: 'job.recovery_failed',
        severity: 'error',
        subject: job.vmName,
        message: `Job ${job.id} could not be cleaned up: ${messageOf(error)}`,
        data: { job_id: job.id },
      });
    }
  }
  return resumable;
}

/** A backup that the new daemon can go on with. */
export interface ResumableJob {
  readonly job: Job;
  readonly resumption: Resumption;
}

async function resumptionOf(deps: RecoverDeps, job: Job): Promise<Resumption | null> {
  if (job.kind !== 'backup') return null;
  const vm = deps.catalog.vms.byContext(String(job.request['context_id']));
  const repository = deps.repositories.all().find(({ id }) => id === job.request['repository_id']);
  if (!vm || !repository || !canResume(vm)) return null;
  const resumption = readResumption(deps.catalog.jobs.steps(job.id));
  if (resumption === null || !(await areLayersUnnamed(repository, vm, resumption))) return null;
  return (await canBeTakenUp(deps, vm, resumption)) ? resumption : null;
}

/** A catalogue that was brought back from a copy may speak of a backup that was finished long ago: its layers stay as they are. */
async function areLayersUnnamed({ root }: Repository, vm: Vm, { begun }: Resumption): Promise<boolean> {
  for (const [diskIndex, { layer }] of begun) {
    const { image, partial } = layerFiles(layout.diskFolder(root, vm.vmUuid, diskIndex), layer);
    if ((await pathExists(image)) || !(await pathExists(partial))) return false;
  }
  return true;
}

/** An agent says itself what it still holds, and may come later; what is read here can be looked at. */
async function canBeTakenUp(deps: RecoverDeps, vm: Vm, { memory }: Resumption): Promise<boolean> {
  if (vm.agentId !== null)
    return deps.hasAgents && deps.catalog.agents.byId(vm.agentId)?.status === 'approved';
  return vm.source.kind === 'image' && (await areImagesUnchanged(machineRef(vm), memory));
}

/** For one that cannot be gone on with after all. */
export const giveUpBackup = recoverBackup;

async function recoverBackup(deps: RecoverDeps, job: Job): Promise<void> {
  const steps = deps.catalog.jobs.steps(job.id);
  const vm = deps.catalog.vms.byContext(String(job.request['context_id']));
  if (!vm || job.backupId === null) return end(deps, job, 'fail');
  await letGo(deps, job, steps, vm);
  await thaw(deps, job, steps, vm.afterCommand);
  await recoverCopies(deps, job);
}

/** Whatever makes restore points: those whose manifest stands are there, of the others nothing is left. */
async function recoverCopies(deps: RecoverDeps, job: Job): Promise<void> {
  const { catalog, clock, repositories } = deps;
  const repositoryId = String(job.request['repository_id']);
  const isKnown = catalog.repositories.all().some((record) => record.id === repositoryId);
  if (!isKnown) return end(deps, job, 'fail');
  const repository = repositories.all().find(({ id }) => id === repositoryId);
  if (!repository) {
    // one that is away is cleaned up when it is back
    catalog.jobs.addStep(job.id, { step: 'left-behind', kind: 'intent', detail: {} }, clock.now());
    return end(deps, job, 'fail');
  }
  const standing = await settleAttempts(deps, repository, job);
  end(deps, job, job.kind === 'backup' && standing.length > 0 ? 'complete' : 'fail');
}

/** Before the `after` command: a guest that is still frozen is thawed first. */
async function letGo(deps: RecoverDeps, job: Job, steps: readonly JobStep[], vm: Vm): Promise<void> {
  if (vm.source.kind === 'image') return;
  for (const { detail } of steps.filter(({ kind, step }) => kind === 'intent' && step === 'source-touched')) {
    try {
      await deps.cleanUpSource(vm, detail);
    } catch (error) {
      // a libvirt that cannot be reached is looked at again before the next backup of this machine
      deps.catalog.events.add({
        kind: 'source.left_behind',
        severity: 'warning',
        subject: job.vmName,
        message: `What the interrupted backup of "${vm.name}" left at its source could not be removed yet: ${messageOf(error)}`,
        data: { job_id: job.id },
      });
    }
  }
}

/** The `after` command was owed from the moment `before` was about to run. */
async function thaw(
  deps: RecoverDeps,
  job: Job,
  steps: readonly JobStep[],
  command: string | null,
): Promise<void> {
  const has = (kind: 'intent' | 'fact', step: string) =>
    steps.some((entry) => entry.kind === kind && entry.step === step);
  if (command === null || has('fact', 'after-hook')) return;
  if (!has('intent', 'before-hook') && !has('intent', 'after-hook') && !has('intent', 'layer-created'))
    return;
  try {
    await runHook({
      hook: 'after',
      command,
      vm: job.vmName ?? '',
      backupId: job.backupId ?? '',
      timeoutMs: deps.hookTimeoutMs,
    });
  } catch (error) {
    deps.catalog.events.add({
      kind: 'hook.failed',
      severity: 'error',
      subject: job.vmName,
      message: `${messageOf(error)} The machine may still be frozen.`,
      data: { job_id: job.id },
    });
  }
}

/** Raw and qcow2 are gone on with when the restore is asked for again; of other formats nothing can be used. */
async function recoverRestore(deps: RecoverDeps, job: Job): Promise<void> {
  const { output, outputs, format } = job.request;
  if (format !== 'raw' && format !== 'qcow2')
    for (const path of Array.isArray(outputs) ? outputs : [output])
      if (typeof path === 'string' && path.startsWith('/')) await removePartial(path);
  end(deps, job, 'fail');
}

function end(deps: RecoverDeps, job: Job, event: 'complete' | 'fail'): void {
  const started = job.status === 'pending' && event === 'complete' ? 'running' : job.status;
  const status = nextStatus(started, event) ?? 'failed';
  const finished: Job = {
    ...job,
    status,
    phase: null,
    error: event === 'complete' ? null : new SendenseError('INTERRUPTED').report(),
    finishedAt: deps.clock.now().toISOString(),
  };
  deps.catalog.jobs.save(finished);
  if (job.backupId !== null && job.kind === 'backup') recordEnd(deps, finished, job.backupId);
  deps.logger.warn({ job: job.id, status }, 'an interrupted job was recovered');
}
