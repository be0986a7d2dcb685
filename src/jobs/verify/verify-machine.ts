import { SendenseError, toSendenseError } from '../../base/sendense-error.ts';
import type { Backup, BackupDisk } from '../../catalog/points/backup-rows.ts';
import type { Vm } from '../../catalog/vms.ts';
import { layout } from '../../repository/layout.ts';
import { confirmRepository, type Repository } from '../../repository/open-repository.ts';
import { type Depth, type DiskDeps, DiskInspector } from '../../repository/verify/inspect-disk.ts';
import type { ResourceLocks } from '../resource-locks.ts';
import { shareChain, stayAway } from '../share-chain.ts';
import { checkManifest, checkVmFile, ownerObjection } from './check-documents.ts';
import { weightOf } from './meter.ts';
import { type RecordDeps, recordDocument, recordOutcome } from './record-outcome.ts';

/** Restore points of one machine in one repository. */
export interface MachineScope {
  readonly vm: Vm;
  readonly repository: Repository;
  /** Null: all of them. */
  readonly backupIds: ReadonlySet<string> | null;
  /** Absent: all disks. */
  readonly diskIndex?: number;
  readonly depth: Depth;
}

export interface VerifyRun extends RecordDeps, Omit<DiskDeps, 'signal'> {
  readonly locks: ResourceLocks;
  readonly holder: string;
  readonly signal: AbortSignal;
  /** `weight`: stored bytes of the disk under way; `fraction` of it is done, 0…1; guest bytes read since the last call. */
  readonly onProgress: (weight: number, fraction: number, readBytes: number) => void;
  readonly onPoint: (weight: number) => void;
}

/**
 * Looks at every restore point in scope and records each verdict at once. Who wants to change the chain meanwhile goes
 * first; then it goes on with what is left.
 * @throws REPOSITORY_UNAVAILABLE, EXPORT_LOST, CANCELLED, TOOL_…
 */
export async function verifyMachine(run: VerifyRun, scope: MachineScope): Promise<void> {
  const done = new Set<string>();
  await recordDocument(run, scope, await checkVmFile(scope.repository.root, scope.vm.vmUuid));
  for (;;) {
    const turn = await shareChain(run.locks, { ...run, ...scope });
    try {
      await confirmRepository(scope.repository);
      await inspectAll(run, scope, done, turn.signal);
      return;
    } catch (error) {
      if (run.signal.aborted) throw new SendenseError('CANCELLED', {}, error);
      if (!turn.signal.aborted) throw error;
    } finally {
      turn.release();
    }
    // whoever asked takes it now; coming back at once we would be first again
    await stayAway(run.signal);
  }
}

async function inspectAll(
  run: VerifyRun,
  scope: MachineScope,
  done: Set<string>,
  signal: AbortSignal,
): Promise<void> {
  const { vm, repository } = scope;
  // anew at each turn: what was deleted or merged meanwhile is not looked for
  const history = run.catalog.backups.completed(vm.contextId, repository.id);
  const inspectors = new Map<number, DiskInspector>();
  const inspectorOf = (diskIndex: number) => {
    const known = inspectors.get(diskIndex);
    if (known) return known;
    const disks = history.flatMap((backup) => backup.disks.filter((disk) => disk.diskIndex === diskIndex));
    const layers = new Set(disks.map((disk) => disk.layer));
    const folder = layout.diskFolder(repository.root, vm.vmUuid, diskIndex);
    const made = new DiskInspector(folder, (layer) => layers.has(layer), { ...run, signal });
    inspectors.set(diskIndex, made);
    return made;
  };
  for (const backup of history) {
    if (scope.backupIds !== null && !scope.backupIds.has(backup.id)) continue;
    const manifest = await checkManifest(repository.root, vm.vmUuid, backup);
    for (const disk of backup.disks) {
      const key = `${backup.id}/${disk.diskIndex}`;
      if (done.has(key) || (scope.diskIndex ?? disk.diskIndex) !== disk.diskIndex) continue;
      if (signal.aborted) throw new SendenseError('CANCELLED');
      const weight = weightOf(history, disk, scope.depth);
      const inspector = inspectorOf(disk.diskIndex);
      try {
        await inspectPoint(run, scope, { backup, disk, manifest, inspector, weight });
      } catch (error) {
        // deleted while it was looked at: a tool may have met the missing file first, and nothing is wrong
        if (signal.aborted || run.catalog.backups.byId(backup.id) !== null) throw error;
      }
      done.add(key);
      run.onPoint(weight);
    }
  }
}

interface Point {
  readonly backup: Backup;
  readonly disk: BackupDisk;
  readonly manifest: Awaited<ReturnType<typeof checkManifest>>;
  readonly inspector: DiskInspector;
  readonly weight: number;
}

async function inspectPoint(run: VerifyRun, scope: MachineScope, point: Point): Promise<void> {
  const { backup, disk, manifest, inspector, weight } = point;
  const seen = await inspector.inspect(disk.layer, scope.depth, (fraction, readBytes) =>
    run.onProgress(weight, fraction, readBytes),
  );
  const own = seen.chain[0]?.sidecar;
  const objection =
    manifest.document !== null && own !== undefined
      ? ownerObjection(manifest.document, disk.diskIndex, own)
      : null;
  const foreign =
    objection === null ? null : new SendenseError('LAYER_REFUSED', { layer: disk.layer, detail: objection });
  const damages =
    foreign === null
      ? seen.damages
      : [...seen.damages, { layer: disk.layer, error: foreign, places: [], placeCount: 0 }];
  const ok = seen.ok && foreign === null && manifest.error === null;
  // it may have been deleted while it was looked at; then nothing is wrong
  if (run.catalog.backups.byId(backup.id) === null) return;
  await recordOutcome(
    run,
    scope,
    point,
    { ...seen, ok, damages },
    manifest.error && toSendenseError(manifest.error),
  );
}
