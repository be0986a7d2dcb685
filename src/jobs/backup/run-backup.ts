import { hasCode, SendenseError, toSendenseError } from '../../base/sendense-error.ts';
import { runHook } from '../../capture/hooks.ts';
import type { Snapshot } from '../../capture/source.ts';
import { recordBackup } from '../../catalog/record-backup.ts';
import type { VmDisk } from '../../catalog/vms.ts';
import { type Manifest, type ManifestDisk, REPOSITORY_FORMAT } from '../../repository/documents.ts';
import { discardLayer } from '../../repository/layers/seal-layer.ts';
import { confirmWritable } from '../../repository/open-repository.ts';
import { findManifest, makeDiskFolder, writeManifest, writeVmFile } from '../../repository/publish-backup.ts';
import type { JobContext } from '../job-engine.ts';
import { confirmSoon } from '../repository/confirm-soon.ts';
import { guardRepository } from '../repository/guard-repository.ts';
import type { BackupDeps, BackupRequest } from './backup-deps.ts';
import { checkSpace } from './check-space.ts';
import { type FilledLayer, fillLayer } from './fill-layer.ts';
import { holdLatest } from './hold-latest.ts';
import { markDamage } from './mark-damage.ts';
import { type DiskPlan, isUnexpected, planDisk } from './plan-disk.ts';
import { publishLayer } from './publish-layer.ts';
import { TransferProgress } from './transfer-progress.ts';

/**
 * One backup of one machine, from the first look at its disks to the catalogue row. When it returns, every byte is
 * durable and proven; when it throws, nothing of it is left in the repository.
 */
export async function runBackup(deps: BackupDeps, request: BackupRequest, outer: JobContext): Promise<void> {
  const { vm, repository } = request;
  const made: FilledLayer[] = [];
  using guard = guardRepository(repository, deps.reserveBytes, outer.signal);
  const context: JobContext = { ...outer, signal: guard.signal };
  try {
    context.setPhase('preparing');
    await checkSpace(deps, request, context);
    const disks = vm.disks.filter((disk) => disk.active);
    if (disks.length === 0)
      throw new SendenseError('DISK_UNKNOWN', { subject: `The machine "${vm.name}"`, disk: '(any)' });
    await writeVmFile(repository.root, vmDocumentOf(request));
    await transferAll(deps, request, context, disks, made);
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
    const manifest = manifestOf(deps, request, context, published);
    await confirmWritable(repository);
    context.intent('manifest-written');
    await writeManifest(repository.root, manifest);
    context.fact('manifest-written');
    context.intent('catalogued');
    recordBackup(deps.catalog, repository, manifest, fingerprints, deps.clock.now());
    context.fact('catalogued');
  } catch (error) {
    if (outer.signal.aborted) {
      await discardUnpublished(request, context, made);
      throw new SendenseError('CANCELLED', {}, error);
    }
    const isAway = !(await discardUnpublished(request, context, made));
    const failure = guard.failure() ?? (isAway ? await confirmSoon(repository).catch(toSendenseError) : null);
    throw failure ?? error;
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

const vmDocumentOf = ({ vm }: BackupRequest) => ({
  format: REPOSITORY_FORMAT as 1,
  vm_uuid: vm.vmUuid,
  vm_name: vm.name,
  context_id: vm.contextId,
  source_kind: 'image' as const,
  disks: vm.disks.map((disk) => ({ disk_index: disk.diskIndex, key: disk.key, format: disk.format })),
});

/** The time in which the machine may be frozen: as short as possible, and `after` runs whatever happens. */
async function transferAll(
  deps: BackupDeps,
  request: BackupRequest,
  context: JobContext,
  disks: readonly VmDisk[],
  made: FilledLayer[],
): Promise<void> {
  const { vm, backupId } = request;
  const hook = { vm: vm.name, backupId, timeoutMs: deps.hookTimeoutMs };
  try {
    if (vm.beforeCommand !== null) {
      context.intent('before-hook');
      await runHook({ ...hook, hook: 'before', command: vm.beforeCommand, signal: context.signal });
      context.fact('before-hook');
    }
    context.setPhase('snapshotting');
    await using snapshot = await deps.source.snapshot({
      name: vm.name,
      disks,
      allowBacking: vm.allowBacking,
      isFrozen: vm.beforeCommand !== null,
    });
    await transferDisks(deps, request, context, { snapshot, disks, made });
  } finally {
    if (vm.afterCommand !== null) {
      context.intent('after-hook');
      try {
        await runHook({ ...hook, hook: 'after', command: vm.afterCommand });
      } catch (error) {
        afterFailed(deps, request, context, toSendenseError(error));
      }
      context.fact('after-hook');
    }
  }
}

/** The bytes are good all the same, but somebody must look after the machine. */
function afterFailed(
  deps: BackupDeps,
  request: BackupRequest,
  context: JobContext,
  error: SendenseError,
): void {
  context.warn(error.message);
  deps.catalog.events.add({
    kind: 'hook.failed',
    severity: 'error',
    subject: request.vm.name,
    message: `${error.message} The machine may still be frozen.`,
    data: { backup_id: request.backupId },
  });
}

interface Transfer {
  readonly snapshot: Snapshot;
  readonly disks: readonly VmDisk[];
  readonly made: FilledLayer[];
}

async function transferDisks(
  deps: BackupDeps,
  request: BackupRequest,
  context: JobContext,
  transfer: Transfer,
): Promise<void> {
  const { snapshot, disks, made } = transfer;
  const totalBytes = snapshot.disks.reduce((sum, disk) => sum + disk.sizeBytes, 0);
  const progress = new TransferProgress(totalBytes, Date.now());
  for (const [position, { diskIndex }] of disks.entries()) {
    const disk = snapshot.disks[position];
    if (!disk)
      throw new SendenseError('INTERNAL', { detail: 'the snapshot has fewer disks than the machine' });
    // a folder must not be made below a mount that has gone since
    await confirmWritable(request.repository);
    await makeDiskFolder(request.repository.root, request.vm.vmUuid, diskIndex);
    const fill = (plan: DiskPlan) => {
      context.setPhase('transferring');
      return fillLayer(
        { ...deps, repositoryRoot: request.repository.root },
        {
          contextId: request.vm.contextId,
          diskIndex,
          vmUuid: request.vm.vmUuid,
          disk,
          plan,
          startedAt: request.createdAt,
          onProgress: (moved) => {
            progress.update(moved);
            context.setProgress(progress.report(Date.now()));
          },
        },
        context,
      );
    };
    const plan = await planFor(deps, request, context, {
      diskIndex,
      diskKey: disk.key,
      sizeBytes: disk.sizeBytes,
    });
    made.push(await fillOrFull(deps, request, context, { diskIndex, plan, fill }));
    progress.diskDone();
    context.setProgress(progress.report(Date.now()));
  }
}

async function planFor(
  deps: BackupDeps,
  request: BackupRequest,
  context: JobContext,
  disk: { diskIndex: number; diskKey: string; sizeBytes: number },
): Promise<DiskPlan> {
  const { vm, repository } = request;
  const history = await holdLatest(deps, request, disk.diskIndex, context.signal);
  const plan = await planDisk(request.type, disk, {
    root: repository.root,
    vmUuid: vm.vmUuid,
    history,
    maxDepth: deps.maxDepth,
    signal: context.signal,
    onDamage: async (diskIndex, layer, error) => {
      await markDamage(deps, vm, repository, diskIndex, layer, error);
    },
    onChecked: (backupId, diskIndex, fingerprint) =>
      deps.catalog.backups.markFingerprint(backupId, diskIndex, fingerprint),
  });
  if (plan.reason !== null) sayFull(deps, request, context, disk.diskIndex, plan.reason);
  return plan;
}

function sayFull(
  deps: BackupDeps,
  request: BackupRequest,
  context: JobContext,
  diskIndex: number,
  reason: string,
): void {
  const instead = isUnexpected(reason) ? ` instead of ${request.type}` : '';
  const message = `Disk ${diskIndex} is backed up in full${instead}: ${reason.replace(/\.$/, '')}.`;
  if (isUnexpected(reason)) context.warn(message);
  deps.catalog.events.add({
    kind: 'backup.became_full',
    severity: isUnexpected(reason) ? 'warning' : 'info',
    subject: request.vm.name,
    message,
    data: { backup_id: request.backupId, disk_index: diskIndex },
  });
}

interface FillStep {
  readonly diskIndex: number;
  readonly plan: DiskPlan;
  readonly fill: (plan: DiskPlan) => Promise<FilledLayer>;
}

/** A parent that turns out to be damaged while it is read makes this disk go full. */
async function fillOrFull(
  deps: BackupDeps,
  request: BackupRequest,
  context: JobContext,
  step: FillStep,
): Promise<FilledLayer> {
  try {
    return await step.fill(step.plan);
  } catch (error) {
    const isParentDamage = step.plan.parent !== null && hasCode(error, 'LAYER_CORRUPT', 'FORMAT_INVALID');
    if (!isParentDamage) throw error;
    const damage = toSendenseError(error);
    const layer = String(damage.fields['layer'] ?? step.plan.parent?.layers[0]?.layer);
    await markDamage(deps, request.vm, request.repository, step.diskIndex, layer, damage);
    const reason = `the chain is damaged: ${damage.message}`;
    sayFull(deps, request, context, step.diskIndex, reason);
    return await step.fill({ type: 'full', reason, parent: null });
  }
}

function manifestOf(
  deps: BackupDeps,
  request: BackupRequest,
  context: JobContext,
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
    consistency: vm.beforeCommand === null ? 'crash' : 'application',
    created_at: request.createdAt.toISOString(),
    completed_at: deps.clock.now().toISOString(),
    disks,
  };
}
