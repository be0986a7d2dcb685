import type { Clock } from '../../base/clock.ts';
import { errnoOf, messageOf, type SendenseError } from '../../base/sendense-error.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import type { Backup, BackupDisk } from '../../catalog/points/backup-rows.ts';
import type { Vm } from '../../catalog/vms.ts';
import type { Sidecar, Verification } from '../../repository/documents.ts';
import { writeSidecar } from '../../repository/layers/seal-layer.ts';
import { layerFiles, layout } from '../../repository/layout.ts';
import type { Repository } from '../../repository/open-repository.ts';
import { readSidecar } from '../../repository/read-repository.ts';
import type { LayerDamage, PointOutcome } from '../../repository/verify/inspect-disk.ts';
import { markDamage } from '../backup/plan/mark-damage.ts';

export interface RecordDeps {
  readonly catalog: Catalog;
  readonly clock: Clock;
  readonly tally: Tally;
  /** Take the marks of earlier checks away where everything reads well now. */
  readonly clear: boolean;
  readonly warn: (text: string) => void;
}

interface Place {
  readonly vm: Vm;
  readonly repository: Repository;
}

interface Point {
  readonly backup: Backup;
  readonly disk: BackupDisk;
}

/** A place as the job's result tells it. */
interface ToldPlace {
  readonly backupId: string | null;
  readonly diskId: number | null;
  readonly layer: string | null;
  readonly offset: number | null;
  readonly size: number | null;
  readonly code: string;
  readonly detail: string;
}

/** Bad places that a result lists; of the rest only the number. */
const MAX_TOLD_PLACES = 100;

/** What a verification found so far. */
export class Tally {
  /** Disks of restore points. */
  checked = 0;
  bad = 0;
  rows = 0;
  bytes = 0;
  placesTotal = 0;
  cleared = 0;
  readonly places: ToldPlace[] = [];
  /** Read well, but marked by an earlier check. */
  readonly marked: { readonly backupId: string; readonly diskId: number }[] = [];

  tell(places: readonly ToldPlace[], count: number): void {
    this.placesTotal += count;
    this.places.push(...places.slice(0, MAX_TOLD_PLACES - this.places.length));
  }

  result(): Record<string, unknown> {
    const { checked, bad, rows, bytes, placesTotal, cleared, places, marked } = this;
    return { checked, bad, rows, bytes, placesTotal, cleared, places, marked };
  }
}

/** A document of the repository that cannot be used. Layers and their content are not touched by it. */
export async function recordDocument(
  deps: RecordDeps,
  { vm }: Place,
  error: SendenseError | null,
  backupId: string | null = null,
): Promise<void> {
  if (error === null) return;
  const place = { backupId, diskId: null, layer: null, offset: null, size: null };
  deps.tally.tell([{ ...place, code: error.code, detail: error.message }], 1);
  deps.catalog.events.add({
    kind: 'verify.failed',
    severity: 'error',
    subject: vm.name,
    message: `${error.message} ${error.hint}`,
    data: { backup_id: backupId, code: error.code, path: error.fields['path'] ?? null },
  });
}

/** Writes down what was found at one restore point's disk: beside its layer, in the catalogue, and as events. */
export async function recordOutcome(
  ambient: RecordDeps,
  at: Place,
  { backup, disk }: Point,
  seen: PointOutcome,
  manifestError: SendenseError | null,
): Promise<void> {
  // one verdict has one time, wherever it is kept
  const instant = ambient.clock.now();
  const deps = { ...ambient, clock: { now: () => instant } };
  const { tally, catalog } = deps;
  tally.checked += 1;
  tally.rows += seen.rows;
  tally.bytes += seen.bytes;
  await recordDocument(deps, at, manifestError, backup.id);
  for (const damage of seen.damages) await recordDamage(deps, at, { backup, disk }, damage);
  const now = instant.toISOString();
  if (!seen.ok) {
    tally.bad += 1;
    catalog.backups.markVerified(backup.id, disk.diskIndex, now, false);
    return;
  }
  const isMarked =
    disk.damage !== null || seen.chain.some(({ sidecar }) => sidecar.verification?.ok === false);
  if (isMarked && !deps.clear) {
    tally.marked.push({ backupId: backup.id, diskId: disk.diskIndex });
    catalog.backups.markVerified(backup.id, disk.diskIndex, now, false);
    return;
  }
  const verdict = { checked_at: now, ok: true, detail: null, rows: seen.rows, bytes: seen.bytes };
  const folder = layout.diskFolder(at.repository.root, at.vm.vmUuid, disk.diskIndex);
  for (const [index, { layer, sidecar }] of seen.chain.slice(0, seen.judged).entries())
    if (index === 0 || sidecar.verification?.ok === false) await keepVerdict(deps, folder, layer, verdict);
  catalog.backups.markVerified(backup.id, disk.diskIndex, now, true);
  if (isMarked) clearMark(deps, at, backup, disk);
}

function clearMark(deps: RecordDeps, { vm }: Place, backup: Backup, disk: BackupDisk): void {
  deps.tally.cleared += 1;
  deps.catalog.backups.clearDamage(backup.id, disk.diskIndex);
  deps.catalog.events.add({
    kind: 'chain.cleared',
    severity: 'warning',
    subject: vm.name,
    message: `Disk ${disk.diskIndex} of ${backup.id} reads well again; its mark was taken away as asked.`,
    data: { backup_id: backup.id, disk_index: disk.diskIndex, was: disk.damage },
  });
}

async function recordDamage(
  deps: RecordDeps,
  at: Place,
  { backup, disk }: Point,
  damage: LayerDamage,
): Promise<void> {
  const { catalog, tally } = deps;
  const { layer, error, places, placeCount } = damage;
  const { diskIndex } = disk;
  let affected: string[] = [];
  try {
    affected = await markDamage(deps, at.vm, at.repository, diskIndex, layer, error);
  } catch (cause) {
    if (errnoOf(cause) === null) throw cause;
    // the catalogue has it
    deps.warn(`The verdict could not be written beside ${layer}: ${messageOf(cause)}`);
  }
  // of a retired layer the catalogue may not know who stands on it
  if (!affected.includes(backup.id)) {
    catalog.backups.markDamage(backup.id, diskIndex, error.message);
    affected.push(backup.id);
  }
  const [first] = places;
  const told = { backupId: backup.id, diskId: diskIndex, layer, code: error.code };
  const whole = [
    { ...told, offset: null, size: null, detail: String(error.fields['detail'] ?? error.message) },
  ];
  tally.tell(
    first === undefined ? whole : places.map((place) => ({ ...told, ...place })),
    Math.max(1, placeCount),
  );
  const others = affected.length > 1 ? ` ${affected.length} restore points stand on it.` : '';
  catalog.events.add({
    kind: 'verify.failed',
    severity: 'error',
    subject: at.vm.name,
    message: `Disk ${diskIndex} of ${backup.id}: ${error.message}${others} Restore from an older point or back up again, which makes a full of this disk; see "A damaged chain" in docs/operations.md.`,
    data: {
      backup_id: backup.id,
      disk_index: diskIndex,
      layer,
      code: error.code,
      offset: first?.offset ?? null,
      places: Math.max(1, placeCount),
      backups: affected,
    },
  });
}

/** Beside the layer, so that it is not lost with the catalogue. A repository that cannot be written keeps none. */
async function keepVerdict(
  deps: RecordDeps,
  folder: string,
  layer: string,
  verification: Verification,
): Promise<void> {
  try {
    const sidecar: Sidecar = await readSidecar(folder, layer);
    await writeSidecar(layerFiles(folder, layer), { ...sidecar, verification });
  } catch (error) {
    if (errnoOf(error) === null) throw error;
    deps.warn(`The verdict could not be written beside ${layer}: ${messageOf(error)}`);
  }
}
