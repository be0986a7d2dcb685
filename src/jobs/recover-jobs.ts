import { rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Clock } from '../base/clock.ts';
import { syncFolder } from '../base/durable-file.ts';
import type { Logger } from '../base/logger.ts';
import { messageOf, SendenseError } from '../base/sendense-error.ts';
import { runHook } from '../capture/hooks.ts';
import type { Catalog } from '../catalog/catalog.ts';
import type { Job, JobStep } from '../catalog/jobs.ts';
import { recordBackup } from '../catalog/record-backup.ts';
import { layerNamePattern } from '../repository/documents.ts';
import { layerFiles, layout } from '../repository/layout.ts';
import { findManifest } from '../repository/publish-backup.ts';
import { discardLayer } from '../repository/seal-layer.ts';
import { recordEnd } from './backup/start-backup.ts';
import { nextStatus } from './job-state.ts';
import type { Repositories } from './repositories.ts';

interface RecoverDeps {
  readonly catalog: Catalog;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly repositories: Repositories;
  readonly hookTimeoutMs: number;
}

/**
 * Visits every job that a dead daemon left unfinished. A backup whose manifest stands is completed; of any other
 * every file that its intents name is removed. Repeating it after another crash is fine.
 */
export async function recoverJobs(deps: RecoverDeps): Promise<number> {
  const unfinished = deps.catalog.jobs.unfinished();
  for (const job of unfinished) {
    try {
      if (job.kind === 'backup') await recoverBackup(deps, job);
      else if (job.kind === 'restore-disk') await recoverRestore(deps, job);
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
  return unfinished.length;
}

async function recoverBackup(deps: RecoverDeps, job: Job): Promise<void> {
  const steps = deps.catalog.jobs.steps(job.id);
  const vm = deps.catalog.vms.byContext(String(job.request['context_id']));
  if (!vm || job.backupId === null) return end(deps, job, 'fail');
  const repositoryId = String(job.request['repository_id']);
  const isForgotten = !deps.catalog.repositories.all().some((record) => record.id === repositoryId);
  // one that is away stops here, and the job is visited again
  const repository = isForgotten ? null : deps.repositories.byId(repositoryId);
  await thaw(deps, job, steps, vm.afterCommand);
  if (repository === null) return end(deps, job, 'fail');
  const manifest = await findManifest(repository.root, vm.vmUuid, job.backupId);
  if (manifest) {
    recordBackup(deps.catalog, repository, manifest, new Map(), deps.clock.now());
    return end(deps, job, 'complete');
  }
  for (const { diskIndex, layer } of layersOf(steps)) {
    const folder = layout.diskFolder(repository.root, vm.vmUuid, diskIndex);
    await discardLayer(layerFiles(folder, layer));
    await syncFolder(folder).catch(() => undefined); // the folder may never have been made
  }
  // a manifest that was being written when the power went
  await rm(`${layout.manifestFile(repository.root, vm.vmUuid, job.backupId)}.tmp`, { force: true });
  return end(deps, job, 'fail');
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

function layersOf(steps: readonly JobStep[]): { diskIndex: number; layer: string }[] {
  return steps.flatMap(({ step, kind, detail }) => {
    const layer = String(detail['layer']);
    const isOurs = step === 'layer-created' && kind === 'intent' && layerNamePattern.test(layer);
    return isOurs ? [{ diskIndex: Number(detail['disk_index']), layer }] : [];
  });
}

async function recoverRestore(deps: RecoverDeps, job: Job): Promise<void> {
  const output = job.request['output'];
  if (typeof output === 'string') {
    await rm(`${output}.sendense-partial`, { force: true });
    await syncFolder(dirname(output)).catch(() => undefined);
  }
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
