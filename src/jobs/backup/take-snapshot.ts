import { type SendenseError, toSendenseError } from '../../base/sendense-error.ts';
import { runHook } from '../../capture/hooks.ts';
import type { MachineDescription, Remembered, Snapshot, Source } from '../../capture/source.ts';
import type { Vm } from '../../catalog/vms.ts';
import { discardLayer } from '../../repository/layers/seal-layer.ts';
import { layerFiles, layout } from '../../repository/layout.ts';
import { findManifest, writeVmFile } from '../../repository/publish-backup.ts';
import type { JobContext } from '../job-work.ts';
import { vmDocumentOf } from '../machines/vm-document.ts';
import type { BackupDeps, BackupRequest } from './backup-deps.ts';
import { foundDisks, machineRef } from './plan/machine-ref.ts';
import type { PlannedDisk } from './plan/plan-disk.ts';
import type { Capture } from './resume/capture.ts';
import { canResume, type Resumption, restorePlanned, savePlan } from './resume/resumption.ts';
import { planDisks, transferDisks } from './transfer-disks.ts';

/** What the snapshot said of itself, for the manifest. */
export type Captured = Pick<Snapshot, 'consistency' | 'configuration'>;

/**
 * Snapshot and transfer of all disks. The time in which the machine may be frozen: as short as possible, and `after`
 * runs whatever happens.
 */
export async function takeSnapshot(
  deps: BackupDeps,
  request: BackupRequest,
  context: JobContext,
  capture: Capture,
): Promise<Captured> {
  const { vm, backupId } = request;
  const { resumption, suspension } = capture;
  const hook = { vm: vm.name, backupId, timeoutMs: deps.hookTimeoutMs };
  try {
    if (vm.beforeCommand !== null) {
      context.intent('before-hook');
      await runHook({ ...hook, hook: 'before', command: vm.beforeCommand, signal: context.signal });
      context.fact('before-hook');
    }
    const source = deps.sourceOf(vm.source.kind, vm.agentId);
    if (resumption !== null && source.takeUp !== undefined) {
      const planned = await restorePlanned(request.repository.root, vm.vmUuid, resumption);
      await discardAbandoned(request, resumption);
      await using snapshot = source.takeUp(machineRef(vm), resumption.memory);
      suspension.becomesPossible(snapshot);
      await transferDisks(deps, request, context, { ...capture, snapshot, planned });
      return { consistency: snapshot.consistency, configuration: snapshot.configuration };
    }
    const described = await source.describe(machineRef(vm));
    const current = takeOverDisks(deps, vm, described, context);
    await writeVmFile(request.repository.root, vmDocumentOf(current, deps.clock.now()));
    const planned = await planDisks(deps, { ...request, vm: current }, context, described);
    context.setPhase('snapshotting');
    await using snapshot = await openSnapshot(source, { ...request, vm: current }, context, planned);
    if (snapshot.memory !== undefined && canResume(vm)) {
      context.fact('snapshot-taken', {
        memory: snapshot.memory,
        disks: planned.map(({ diskIndex, key, format, sizeBytes, plan }) => ({
          ...{ disk_index: diskIndex, key, format, size_bytes: sizeBytes, ...savePlan(plan) },
        })),
      });
      suspension.becomesPossible(snapshot);
    }
    await transferDisks(deps, { ...request, vm: current }, context, { ...capture, snapshot, planned });
    return { consistency: snapshot.consistency, configuration: snapshot.configuration };
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

async function discardAbandoned({ repository, vm }: BackupRequest, { abandoned }: Resumption): Promise<void> {
  for (const { disk_index, layer } of abandoned)
    await discardLayer(layerFiles(layout.diskFolder(repository.root, vm.vmUuid, disk_index), layer));
}

async function openSnapshot(
  source: Source,
  { vm, repository }: BackupRequest,
  context: JobContext,
  planned: readonly PlannedDisk[],
): Promise<Snapshot> {
  const since: Record<string, Remembered> = {};
  for (const { key, plan } of planned) {
    const changeId = plan.parent?.layers[0]?.sidecar.change_id ?? null;
    if (changeId === null || plan.parent === null) continue;
    const manifest = await findManifest(repository.root, vm.vmUuid, plan.parent.backupId);
    since[key] = { changeId, configuration: manifest?.configuration ?? null };
  }
  return await source.snapshot(machineRef(vm), {
    since,
    signal: context.signal,
    willMake: (leftover) => context.intent('source-touched', leftover),
    warn: (text) => context.warn(text),
  });
}

/** The disks that an operator registered are those; a source that knows its machines itself has the last word. */
function takeOverDisks(
  { catalog, clock }: BackupDeps,
  vm: Vm,
  described: MachineDescription,
  context: JobContext,
): Vm {
  if (vm.source.kind === 'image') return vm;
  const disks = foundDisks(vm.disks, described.disks);
  const current = { ...vm, disks };
  for (const disk of disks) {
    const before = vm.disks.find(({ diskIndex }) => diskIndex === disk.diskIndex);
    if ((before?.active ?? false) === disk.active) continue;
    const leftOut = described.leftOut.find(({ key }) => key === disk.key);
    const why = leftOut === undefined ? 'the machine has it no more' : leftOut.reason;
    const message = disk.active
      ? `Disk ${disk.diskIndex} (${disk.key}) of "${vm.name}" is new.`
      : `Disk ${disk.diskIndex} (${disk.key}) of "${vm.name}" is left out from now on: ${why}.`;
    if (!disk.active) context.warn(message);
    catalog.events.add({
      kind: disk.active ? 'disk.added' : 'disk.removed',
      severity: disk.active ? 'info' : 'warning',
      subject: vm.name,
      message,
      data: { disk_index: disk.diskIndex, disk_key: disk.key },
    });
  }
  catalog.vms.save(current, clock.now());
  return current;
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
