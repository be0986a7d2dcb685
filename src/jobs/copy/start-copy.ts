import { copyIdFor } from '../../base/ids.ts';
import { hasCode, SendenseError } from '../../base/sendense-error.ts';
import type { Job } from '../../catalog/jobs.ts';
import type { Backup } from '../../catalog/points/backup-rows.ts';
import type { Repository } from '../../repository/open-repository.ts';
import type { ChainsChanged } from '../chains/chain-keeper.ts';
import { endOf } from '../end-of-job.ts';
import type { JobEngine } from '../job-engine.ts';
import type { JobContext } from '../job-work.ts';
import type { Repositories } from '../repository/repositories.ts';
import { chainResource, type LockRequest, type ResourceLocks } from '../resource-locks.ts';
import { type CopySelection, choosePoints, inTarget } from './choose-points.ts';
import { type CopiedPoint, type CopyDeps, copyPoint } from './copy-point.ts';

export interface StartCopyDeps extends CopyDeps {
  readonly engine: JobEngine;
  readonly locks: ResourceLocks;
  readonly repositories: Repositories;
  readonly chainsChanged: ChainsChanged;
}

/**
 * Starts to copy restore points into another repository, oldest first. One that cannot be copied does not keep the
 * others from it; the job fails in the end all the same.
 * @throws REPOSITORY_UNKNOWN, REPOSITORY_UNAVAILABLE, REPOSITORY_BUSY, and as `choosePoints`
 */
export function startCopy(deps: StartCopyDeps, selection: CopySelection, targetName: string): Job {
  const { catalog, engine, locks, repositories } = deps;
  const target = repositories.byName(targetName);
  const chosen = choosePoints(deps, selection, target);
  const jobId = engine.newId();
  const release = locks.acquire(jobId, [inUse(target)]);
  const [only] = chosen;
  const isOne = selection.kind === 'backup' && only !== undefined;
  const touched = new Set<string>();
  try {
    return engine.submit(jobId, {
      kind: 'copy',
      isAside: true,
      vmName: isOne ? only.vmName : selection.kind === 'vm' ? selection.vmName : null,
      backupId: isOne ? copyIdFor(only.id, target.id) : null,
      request: {
        ...selection,
        context_id: isOne ? only.contextId : null,
        repository: target.name,
        repository_id: target.id,
      },
      run: (context) => copyAll(deps, chosen, target, context, touched),
      ended: (job) => {
        release();
        const what = isOne ? only.id : `${chosen.length} restore points`;
        catalog.events.add({
          ...endOf(job, 'copy', {
            completed: `Copying ${what} to ${target.name} is complete.`,
            cancelled: `Copying ${what} to ${target.name} was cancelled; what was copied until then stays.`,
            failed: `Copying ${what} to ${target.name} failed: `,
          }),
          subject: job.vmName,
          data: { job_id: job.id, repository: target.name, result: job.result },
        });
        for (const contextId of touched) deps.chainsChanged(contextId, target.id);
      },
    });
  } catch (error) {
    release();
    throw error;
  }
}

const inUse = (repository: Repository): LockRequest => ({
  resource: `repository:${repository.id}`,
  exclusive: false,
  busy: (holder) => new SendenseError('REPOSITORY_BUSY', { repository: repository.name, holder }),
});

async function copyAll(
  deps: StartCopyDeps,
  chosen: readonly Backup[],
  target: Repository,
  context: JobContext,
  touched: Set<string>,
): Promise<void> {
  const copied: string[] = [];
  const skipped: string[] = [];
  const failed: string[] = [];
  let bytes = 0;
  let failure: SendenseError | null = null;
  const totalBytes = chosen.reduce((sum, backup) => sum + lengthOf(backup), 0);
  const startedMs = Date.now();
  let doneBytes = 0;
  const tell = (processed: number) => {
    const processedBytes = Math.min(totalBytes, processed);
    const seconds = Math.max(1, Date.now() - startedMs) / 1000;
    const bytesPerSecond = Math.round(processedBytes / seconds);
    const etaSeconds = bytesPerSecond > 0 ? Math.ceil((totalBytes - processedBytes) / bytesPerSecond) : null;
    const transferredBytes = processedBytes;
    context.setProgress({ totalBytes, processedBytes, transferredBytes, bytesPerSecond, etaSeconds });
  };
  for (const { id } of chosen) {
    context.signal.throwIfAborted();
    const limit = doneBytes + lengthOf(deps.catalog.backups.byId(id));
    try {
      const point = await copyOne(deps, id, target, context, (now) => tell(Math.min(limit, doneBytes + now)));
      if (point === null) skipped.push(id);
      else {
        copied.push(point.backupId);
        bytes += point.bytes;
        touched.add(deps.catalog.backups.byId(point.backupId)?.contextId ?? '');
      }
    } catch (error) {
      if (!isOfThisPoint(error)) throw error;
      failure ??= error;
      failed.push(id);
      if (chosen.length > 1) context.warn(`${id} was not copied: ${error.message}`);
    }
    doneBytes = limit;
    tell(doneBytes);
    context.setResult({ copied, skipped, failed, bytes });
  }
  context.setResult({ copied, skipped, failed, bytes });
  if (failure) throw failure;
}

const lengthOf = (backup: Backup | null): number =>
  (backup?.disks ?? []).reduce((sum, disk) => sum + disk.fileBytes, 0);

/** Others may be copied all the same. */
const isOfThisPoint = (error: unknown): error is SendenseError =>
  hasCode(
    error,
    'LAYER_CORRUPT',
    'LAYER_REFUSED',
    'CHAIN_PARENT_MISSING',
    'FORMAT_INVALID',
    'FORMAT_TOO_NEW',
    'SEAL_FAILED',
    'BACKUP_BUSY',
    'CHAIN_BUSY',
  );

/** @returns null when it is there already, or not here any more */
async function copyOne(
  deps: StartCopyDeps,
  id: string,
  target: Repository,
  context: JobContext,
  onProgress: (bytes: number) => void,
): Promise<CopiedPoint | null> {
  const { catalog, locks, repositories } = deps;
  // since the job was ordered it may have been deleted
  const first = catalog.backups.byId(id);
  const vm = first ? catalog.vms.byContext(first.contextId) : null;
  if (!first || !vm || inTarget(catalog, id, target)) return null;
  const source = repositories.byId(first.repositoryId);
  const chainBusy = (holder: string) => new SendenseError('CHAIN_BUSY', { vm: vm.name, holder });
  const held = (backupId: string, exclusive: boolean): LockRequest => ({
    resource: `backup:${backupId}`,
    exclusive,
    busy: (holder) => new SendenseError('BACKUP_BUSY', { backup: backupId, holder }),
  });
  const releases = [
    await locks.acquireSoon(
      context.jobId,
      [
        inUse(source),
        ...[source, target].map(({ id: repositoryId }) => ({
          resource: chainResource(repositoryId, vm.contextId),
          exclusive: false,
          busy: chainBusy,
        })),
        held(id, false),
        held(copyIdFor(id, target.id), true),
      ],
      context,
    ),
  ];
  try {
    // again under the locks: a merge may have rewritten it
    const backup = catalog.backups.byId(id);
    if (!backup) return null;
    const holdParent = (parent: string) => {
      releases.push(locks.acquire(context.jobId, [held(parent, false)]));
    };
    return await copyPoint(deps, { backup, vm, source, target, holdParent, onProgress }, context);
  } finally {
    for (const release of releases) release();
  }
}
