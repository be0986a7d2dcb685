import { hasCode, SendenseError, toSendenseError } from '../../base/sendense-error.ts';
import type { MachineDescription, ReadableDisk, Snapshot, SnapshotDisk } from '../../capture/source.ts';
import { layerFiles, layout } from '../../repository/layout.ts';
import { confirmWritable } from '../../repository/open-repository.ts';
import { makeDiskFolder } from '../../repository/publish-backup.ts';
import type { JobContext } from '../job-work.ts';
import type { BackupDeps, BackupRequest } from './backup-deps.ts';
import { type FilledLayer, fillLayer } from './carry/fill-layer.ts';
import { TransferProgress } from './carry/transfer-progress.ts';
import { holdLatest } from './plan/hold-latest.ts';
import { machineRef } from './plan/machine-ref.ts';
import { markDamage } from './plan/mark-damage.ts';
import { type DiskPlan, isUnexpected, type PlannedDisk, planDisk } from './plan/plan-disk.ts';
import type { Capture } from './resume/capture.ts';
import { restorePlan } from './resume/resumption.ts';

/** Decides for each disk, before the snapshot: what the source must tell of the changes depends on it. */
export async function planDisks(
  deps: BackupDeps,
  request: BackupRequest,
  context: JobContext,
  described: MachineDescription,
): Promise<PlannedDisk[]> {
  const { vm } = request;
  const planned: PlannedDisk[] = [];
  for (const { diskIndex, key } of vm.disks.filter((disk) => disk.active)) {
    const disk = described.disks.find((one) => one.key === key);
    if (!disk) throw new SendenseError('INTERNAL', { detail: `the source does not describe ${key}` });
    planned.push({ ...disk, diskIndex, plan: await planOne(deps, request, context, { ...disk, diskIndex }) });
  }
  if (planned.length === 0)
    throw new SendenseError('DISK_UNKNOWN', { subject: `The machine "${vm.name}"`, disk: '(any)' });
  return planned;
}

interface Transfer extends Capture {
  readonly snapshot: Snapshot;
  readonly planned: readonly PlannedDisk[];
}

/** Fills a layer for each disk of the snapshot. */
export async function transferDisks(
  deps: BackupDeps,
  request: BackupRequest,
  context: JobContext,
  { snapshot, planned, made, resumption, suspension }: Transfer,
): Promise<void> {
  const carry = deps.carrierOf(request.vm.agentId, request.vm.source.kind !== 'image');
  const totalBytes = snapshot.disks.reduce((sum, disk) => sum + disk.sizeBytes, 0);
  const progress = new TransferProgress(totalBytes, Date.now());
  for (const before of planned) {
    const { diskIndex } = before;
    const disk = snapshot.disks.find(({ key }) => key === before.key);
    if (!disk) throw new SendenseError('INTERNAL', { detail: `the snapshot has no disk ${before.key}` });
    // a folder must not be made below a mount that has gone since
    await confirmWritable(request.repository);
    await makeDiskFolder(request.repository.root, request.vm.vmUuid, diskIndex);
    const fill = (plan: DiskPlan, source: ReadableDisk, layer: string | null = null) => {
      context.setPhase('transferring');
      return fillLayer(
        { carry, repositoryRoot: request.repository.root },
        {
          contextId: request.vm.contextId,
          diskIndex,
          vmUuid: request.vm.vmUuid,
          machine: machineRef(request.vm),
          disk,
          source,
          plan,
          begunLayer: layer,
          suspension,
          startedAt: request.createdAt,
          bytesPerSecond: (request.mibPerSecond ?? 0) * 1024 ** 2,
          onProgress: (moved) => {
            progress.update(moved);
            context.setProgress(progress.report(Date.now()));
          },
        },
        context,
      );
    };
    const begun = resumption?.begun.get(diskIndex);
    if (begun) {
      const plan = await restorePlan(request.repository.root, request.vm.vmUuid, diskIndex, begun);
      if (plan.parent !== null) request.holdBackup(plan.parent.backupId);
      const done = resumption?.carried.get(diskIndex);
      const place = layout.diskFolder(request.repository.root, request.vm.vmUuid, diskIndex);
      made.push(
        done
          ? {
              ...{ diskIndex, disk, plan, layer: done.layer, files: layerFiles(place, done.layer) },
              ...{ exportName: done.export_name, writtenBytes: done.written_bytes },
            }
          : await fill(plan, begun.source ?? (await disk.open()), begun.layer),
      );
      progress.diskDone();
      continue;
    }
    // one that was resized between the two looks
    const isSame = disk.sizeBytes === before.sizeBytes;
    const plan = isSame
      ? before.plan
      : await planOne(deps, request, context, { ...before, sizeBytes: disk.sizeBytes });
    const known = await knownChanges(disk, plan);
    if (known.plan !== plan) sayFull(deps, request, context, diskIndex, known.plan.reason ?? '');
    made.push(await fillOrFull(deps, request, context, { diskIndex, disk, ...known, fill }));
    progress.diskDone();
    context.setProgress(progress.report(Date.now()));
  }
}

/**
 * The change ID is read from the very layer that the new one stands on. A layer without one was made by comparing, and
 * so will this one be. Lost tracking means a full, of this disk only.
 */
async function knownChanges(
  disk: SnapshotDisk,
  plan: DiskPlan,
): Promise<{ plan: DiskPlan; source: ReadableDisk }> {
  const changeId = plan.parent?.layers[0]?.sidecar.change_id ?? null;
  if (changeId === null) return { plan, source: await disk.open() };
  const changed = await disk.changedSince(changeId);
  if (!('lost' in changed)) return { plan, source: changed };
  const reason = `what changed since the last backup is not known: ${changed.lost}`;
  return { plan: { type: 'full', reason, parent: null }, source: await disk.open() };
}

async function planOne(
  deps: BackupDeps,
  request: BackupRequest,
  context: JobContext,
  { diskIndex, key, sizeBytes }: { diskIndex: number; key: string; sizeBytes: number },
): Promise<DiskPlan> {
  const { vm, repository } = request;
  const history = await holdLatest(deps, request, diskIndex, context.signal);
  const plan = await planDisk(
    request.type,
    { diskIndex, diskKey: key, sizeBytes },
    {
      root: repository.root,
      vmUuid: vm.vmUuid,
      history,
      maxDepth: deps.maxDepth,
      signal: context.signal,
      onDamage: async (damagedIndex, layer, error) => {
        await markDamage(deps, vm, repository, damagedIndex, layer, error);
      },
      onChecked: (backupId, checkedIndex, fingerprint) =>
        deps.catalog.backups.markFingerprint(backupId, checkedIndex, fingerprint),
    },
  );
  if (plan.reason !== null) sayFull(deps, request, context, diskIndex, plan.reason);
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
  readonly disk: SnapshotDisk;
  readonly plan: DiskPlan;
  readonly source: ReadableDisk;
  readonly fill: (plan: DiskPlan, source: ReadableDisk) => Promise<FilledLayer>;
}

/** A parent that turns out to be damaged while it is read makes this disk go full. */
async function fillOrFull(
  deps: BackupDeps,
  request: BackupRequest,
  context: JobContext,
  step: FillStep,
): Promise<FilledLayer> {
  try {
    return await step.fill(step.plan, step.source);
  } catch (error) {
    if (hasCode(error, 'CHANGES_WRONG')) {
      const reason = `what changed since the last backup is not known: ${toSendenseError(error).message}`;
      sayFull(deps, request, context, step.diskIndex, reason);
      return await step.fill({ type: 'full', reason, parent: null }, await step.disk.open());
    }
    const isParentDamage = step.plan.parent !== null && hasCode(error, 'LAYER_CORRUPT', 'FORMAT_INVALID');
    if (!isParentDamage) throw error;
    const damage = toSendenseError(error);
    const layer = String(damage.fields['layer'] ?? step.plan.parent?.layers[0]?.layer);
    await markDamage(deps, request.vm, request.repository, step.diskIndex, layer, damage);
    const reason = `the chain is damaged: ${damage.message}`;
    sayFull(deps, request, context, step.diskIndex, reason);
    return await step.fill({ type: 'full', reason, parent: null }, await step.disk.open());
  }
}
