import { join } from 'node:path';
import { hasCode, SendenseError } from '../../base/sendense-error.ts';
import type { Job } from '../../catalog/jobs.ts';
import type { MirrorRecord } from '../../catalog/mirrors/mirrors.ts';
import type { Backup } from '../../catalog/points/backup-rows.ts';
import { pointNameFor } from '../../mirror/layout.ts';
import { runTask } from '../../mirror/program/run-task.ts';
import { noSyncProgress } from '../../mirror/upload/sync-progress.ts';
import { endOf } from '../end-of-job.ts';
import { findCompleted, findVm } from '../find-backup.ts';
import type { JobContext } from '../job-work.ts';
import { chainResource } from '../resource-locks.ts';
import { readBackupInput } from './backup-input.ts';
import { openGuestExports } from './guest-exports.ts';
import {
  accessOf,
  findRecord,
  indexFileOf,
  type MirrorDeps,
  refreshPoints,
  refuseReader,
} from './mirror-deps.ts';

/** Which restore points are to be in the mirror; nothing: all. */
export interface SyncSelection {
  readonly backup: string | null;
  readonly vmName: string | null;
  /** Also those that retention removed from the mirror. */
  readonly isMissing?: boolean;
}

const DAY_MS = 24 * 3600 * 1000;

/**
 * Starts to upload restore points, oldest first. One that cannot be read does not keep the others from it; the job
 * fails in the end all the same.
 * @throws MIRROR_UNKNOWN, MIRROR_READ_ONLY, BACKUP_UNKNOWN, VM_UNKNOWN
 */
export function startSync(deps: MirrorDeps, name: string, selection: SyncSelection): Job {
  const { catalog, engine } = deps;
  const record = findRecord(deps, name);
  refuseReader(record);
  const chosen = choose(deps, record, selection);
  const [only] = chosen;
  const isOne = selection.backup !== null && only !== undefined;
  const job = engine.newId();
  return engine.submit(job, {
    kind: 'mirror-sync',
    lane: (start) => deps.laneOf(name)(start),
    vmName: isOne ? only.vmName : selection.vmName,
    backupId: isOne ? only.id : null,
    request: {
      mirror: name,
      backup: selection.backup,
      vm_name: selection.vmName,
      restore_points: chosen.length,
    },
    run: async (context) => {
      if (isOne) return await syncAll(deps, name, chosen, context);
      // somebody may have deleted what was there when the bucket was looked at last
      context.setPhase('listing');
      const now = findRecord(deps, name);
      await refreshPoints(deps, now);
      await syncAll(deps, name, choose(deps, now, selection), context);
    },
    ended: (ended) => {
      catalog.events.add({
        ...endOf(ended, 'mirror.sync', {
          completed: `The mirror ${name} is up to date.`,
          cancelled: `Uploading to the mirror ${name} was cancelled; the next one goes on from there.`,
          failed: `Uploading to the mirror ${name} failed: `,
        }),
        subject: ended.vmName,
        data: { job_id: ended.id, mirror: name, result: ended.result },
      });
    },
  });
}

/** Those of the wanted machines that are not known to be there and sound, oldest first. */
function choose(
  deps: MirrorDeps,
  record: MirrorRecord,
  { backup, vmName, isMissing = false }: SyncSelection,
): Backup[] {
  const { catalog } = deps;
  if (backup !== null) return [findCompleted(catalog, backup)];
  const contextIds =
    vmName === null
      ? catalog.vms.all().map(({ contextId }) => contextId)
      : [findVm(catalog, vmName).contextId];
  const there = new Set(catalog.mirrors.points(record.name).map(({ name }) => name));
  const pruned = isMissing ? new Set<string>() : catalog.mirrors.pruned(record.name);
  const damaged = new Set(catalog.mirrorHealth.damaged(record.name));
  const isThere = ({ id, disks }: Backup) =>
    disks
      .map(({ diskIndex }) => pointNameFor(id, diskIndex))
      .every((point) => there.has(point) && !damaged.has(point));
  const { vms } = record.settings;
  return contextIds
    .flatMap((contextId) => catalog.backups.list({ contextId, status: 'completed', limit: 100_000 }))
    .filter((one) => one.copiedFrom === null || catalog.backups.byId(one.copiedFrom) === null)
    .filter((one) => (vms.length === 0 || vms.includes(one.vmName)) && !pruned.has(one.id) && !isThere(one))
    .toSorted((a, b) => (a.createdAt < b.createdAt ? -1 : 1));
}

async function syncAll(
  deps: MirrorDeps,
  name: string,
  chosen: readonly Backup[],
  context: JobContext,
): Promise<void> {
  const total = {
    ...{ added: 0, skipped: 0, failed: [] as string[] },
    ...{ stored_bytes: 0, reused_bytes: 0, packs: 0, requests: 0, retries: 0 },
  };
  let failure: SendenseError | null = null;
  const totalBytes = chosen.reduce((sum, { disks }) => sum + lengthOf(disks), 0);
  const startedMs = Date.now();
  let doneBytes = 0;
  context.setPhase('uploading');
  for (const { id, disks } of chosen) {
    context.signal.throwIfAborted();
    try {
      const result = await syncOne(deps, name, id, context, (processed) => {
        const processedBytes = Math.min(totalBytes, doneBytes + processed);
        const seconds = Math.max(1, Date.now() - startedMs) / 1000;
        const bytesPerSecond = Math.round(processedBytes / seconds);
        const etaSeconds =
          bytesPerSecond > 0 ? Math.ceil((totalBytes - processedBytes) / bytesPerSecond) : null;
        const transferredBytes = total.stored_bytes;
        context.setProgress({ totalBytes, processedBytes, transferredBytes, bytesPerSecond, etaSeconds });
      });
      if (result === null || result.added.length === 0) total.skipped += 1;
      else total.added += 1;
      total.stored_bytes += result?.storedBytes ?? 0;
      total.reused_bytes += result?.reusedBytes ?? 0;
      total.packs += result?.packs ?? 0;
      total.requests += result?.requests ?? 0;
      total.retries += result?.retries ?? 0;
    } catch (error) {
      if (!isOfThisPoint(error)) {
        // what was uploaded before is there and should be seen
        await refreshPoints(deps, findRecord(deps, name)).catch(() => undefined);
        throw error;
      }
      failure ??= error;
      total.failed.push(id);
      if (chosen.length > 1) context.warn(`${id} was not uploaded: ${error.message}`);
    }
    doneBytes += lengthOf(disks);
    context.setResult(total);
  }
  context.setPhase('listing');
  await refreshPoints(deps, findRecord(deps, name));
  context.setResult(total);
  if (failure) throw failure;
}

const lengthOf = (disks: Backup['disks']): number => disks.reduce((sum, disk) => sum + disk.writtenBytes, 0);

const isOfThisPoint = (error: unknown): error is SendenseError =>
  hasCode(
    error,
    ...([
      'LAYER_CORRUPT',
      'LAYER_REFUSED',
      'CHAIN_PARENT_MISSING',
      'FORMAT_INVALID',
      'FORMAT_TOO_NEW',
    ] as const),
    ...(['BACKUP_UNKNOWN', 'BACKUP_BUSY', 'CHAIN_BUSY', 'REPOSITORY_UNAVAILABLE'] as const),
  );

/** @returns null when it is not here any more */
async function syncOne(
  deps: MirrorDeps,
  name: string,
  id: string,
  context: JobContext,
  onProgress: (processedBytes: number) => void,
) {
  const backup = deps.catalog.backups.byId(id);
  if (!backup) return null;
  const busy = (holder: string) => new SendenseError('BACKUP_BUSY', { backup: id, holder });
  const chainBusy = (holder: string) => new SendenseError('CHAIN_BUSY', { vm: backup.vmName, holder });
  const chain = chainResource(backup.repositoryId, backup.contextId);
  const release = await deps.locks.acquireSoon(
    context.jobId,
    [
      { resource: chain, exclusive: false, busy: chainBusy },
      { resource: `backup:${id}`, exclusive: false, busy },
    ],
    context,
  );
  try {
    const ready = await readBackupInput(deps, backup);
    const folder = join(deps.runFolder, context.jobId.slice(-6));
    await using guests = await openGuestExports({ logger: deps.logger, folder }, ready.images);
    const record = findRecord(deps, name);
    const { level, lock, mibPerSecond, rateWindows } = record.settings;
    const lockUntil = lock === null ? null : new Date(deps.clock.now().getTime() + lock.days * DAY_MS);
    const latest = noSyncProgress();
    const result = await runTask({
      mirrorFile: deps.mirrorFile,
      task: {
        task: 'sync',
        access: await accessOf(deps, record),
        indexFile: indexFileOf(deps, name),
        level,
        retention:
          lock === null || lockUntil === null ? null : { mode: lock.mode, until: lockUntil.toISOString() },
        rate: { mibPerSecond, windows: rateWindows },
        backup: ready.input(guests.socketPath),
        damaged: deps.catalog.mirrorHealth.damaged(name),
      },
      onProgress: (progress) => {
        Object.assign(latest, progress);
        onProgress(latest.processedBytes);
      },
      signal: context.signal,
    });
    deps.catalog.mirrorHealth.clearDamaged(name, result.added);
    deps.catalog.mirrors.dropPruned(name, id);
    return result;
  } finally {
    release();
  }
}
