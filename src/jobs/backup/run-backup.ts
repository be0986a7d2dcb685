import { hasCode, SendenseError, toSendenseError } from '../../base/sendense-error.ts';
import { recordBackup } from '../../catalog/points/record-backup.ts';
import { type Manifest, type ManifestDisk, REPOSITORY_FORMAT } from '../../repository/documents.ts';
import { discardLayer } from '../../repository/layers/seal-layer.ts';
import { confirmWritable } from '../../repository/open-repository.ts';
import { findManifest, writeManifest } from '../../repository/publish-backup.ts';
import type { JobContext } from '../job-work.ts';
import { confirmSoon } from '../repository/confirm-soon.ts';
import { guardRepository } from '../repository/guard-repository.ts';
import type { BackupDeps, BackupRequest } from './backup-deps.ts';
import type { FilledLayer } from './carry/fill-layer.ts';
import { checkSpace } from './plan/check-space.ts';
import { publishLayer } from './publish-layer.ts';
import { releaseUnneeded } from './release-unneeded.ts';
import type { Resumption } from './resume/resumption.ts';
import { Suspension } from './resume/suspension.ts';
import { type Captured, takeSnapshot } from './take-snapshot.ts';

/**
 * One backup of one machine, from the first look at its disks to the catalogue row. When it returns, every byte is
 * durable and proven; when it throws, nothing of it is left in the repository, unless the next daemon will go on.
 */
export async function runBackup(
  deps: BackupDeps,
  request: BackupRequest,
  outer: JobContext,
  resumption: Resumption | null = null,
): Promise<void> {
  const { repository } = request;
  const made: FilledLayer[] = [];
  using guard = guardRepository(repository, deps.reserveBytes, outer.signal);
  const context: JobContext = { ...outer, signal: guard.signal };
  const suspension = new Suspension(context);
  try {
    context.setPhase('preparing');
    if (resumption === null) await checkSpace(deps, request, context);
    const captured = await takeSnapshot(deps, request, context, { made, resumption, suspension });
    suspension.ends();
    context.setPhase('sealing');
    guard.finishing();
    const published: ManifestDisk[] = [];
    const fingerprints = new Map<number, string>();
    for (const filled of made) {
      const result = await publishLayer(deps, request, context, filled);
      published.push(result.entry);
      fingerprints.set(filled.diskIndex, result.fingerprint);
    }
    context.signal.throwIfAborted();
    context.setPhase('publishing');
    const manifest = manifestOf(deps, request, context, captured, published);
    await confirmWritable(repository);
    context.intent('manifest-written');
    await writeManifest(repository.root, manifest);
    context.fact('manifest-written');
    context.intent('catalogued');
    recordBackup(deps.catalog, repository, manifest, fingerprints, deps.clock.now());
    context.fact('catalogued');
  } catch (error) {
    if (await suspension.stays()) {
      outer.suspend();
      throw error;
    }
    if (outer.signal.aborted) {
      await discardUnpublished(request, context, made);
      throw new SendenseError('CANCELLED', {}, error);
    }
    const isAway = !(await discardUnpublished(request, context, made));
    const failure = guard.failure() ?? (isAway ? await confirmSoon(repository).catch(toSendenseError) : null);
    throw failure ?? error;
  } finally {
    await releaseUnneeded(deps, request, context);
  }
}

/** @returns false when the repository is away; it is cleaned up when it is back */
async function discardUnpublished(
  { repository, vm, backupId }: BackupRequest,
  context: JobContext,
  made: readonly FilledLayer[],
): Promise<boolean> {
  try {
    await confirmSoon(repository);
    // once the manifest stands the backup exists, whatever failed after it
    const isPublished = (await findManifest(repository.root, vm.vmUuid, backupId)) !== null;
    if (!isPublished) for (const filled of made) await discardLayer(filled.files);
    return true;
  } catch (error) {
    if (!hasCode(error, 'REPOSITORY_UNAVAILABLE')) throw error;
    context.intent('left-behind');
    return false;
  }
}

function manifestOf(
  deps: BackupDeps,
  request: BackupRequest,
  context: JobContext,
  captured: Captured,
  disks: ManifestDisk[],
): Manifest {
  const { vm } = request;
  return {
    format: REPOSITORY_FORMAT,
    backup_id: request.backupId,
    job_id: context.jobId,
    vm_uuid: vm.vmUuid,
    vm_name: vm.name,
    context_id: vm.contextId,
    requested_type: request.type,
    consistency: captured.consistency,
    created_at: request.createdAt.toISOString(),
    completed_at: deps.clock.now().toISOString(),
    ...(captured.configuration === null ? {} : { configuration: captured.configuration }),
    disks,
  };
}
