import { SendenseError } from '../../../base/sendense-error.ts';
import type { DiskDescription } from '../../../capture/source.ts';
import type { Backup, BackupDisk } from '../../../catalog/points/backup-rows.ts';
import type { LayerType } from '../../../nbd/exports/export-name.ts';
import { checkLayer } from '../../../qemu/qemu-img.ts';
import { type ChainLayer, isChainDamage, layerChain } from '../../../repository/layers/layer-chain.ts';

/** The layers a new one will stand on. */
export interface ParentChain {
  readonly backupId: string;
  /** Newest first, the full last. */
  readonly layers: readonly ChainLayer[];
}

export interface DiskPlan {
  readonly type: LayerType;
  /** Why it is not the type that was asked for. */
  readonly reason: string | null;
  readonly parent: ParentChain | null;
}

/** A disk of the machine and what its new layer will stand on. */
export interface PlannedDisk extends DiskDescription {
  readonly diskIndex: number;
  readonly plan: DiskPlan;
}

export interface DiskToPlan {
  readonly diskIndex: number;
  readonly diskKey: string;
  readonly sizeBytes: number;
}

interface PlanDeps {
  readonly root: string;
  readonly vmUuid: string;
  /** Completed backups of the machine in this repository, oldest first. */
  readonly history: readonly Backup[];
  readonly maxDepth: number;
  readonly signal: AbortSignal;
  /** Told of a layer that turned out to be damaged. */
  readonly onDamage: (diskIndex: number, layer: string, error: SendenseError) => Promise<void>;
  /** Told that a layer, whose file had changed, was checked and is clean. */
  readonly onChecked: (backupId: string, diskIndex: number, fingerprint: string) => void;
}

const NO_EARLIER_BACKUP = 'this disk has no earlier backup in this repository';

/** A first backup is a full by nature; any other reason is one that somebody should look at. */
export const isUnexpected = (reason: string | null): boolean =>
  reason !== null && reason !== NO_EARLIER_BACKUP;

const full = (reason: string | null): DiskPlan => ({ type: 'full', reason, parent: null });

/**
 * Decides how one disk is backed up. An incremental that cannot be trusted becomes a full for this disk, with the
 * reason; never a broken chain, never a silent full.
 */
export async function planDisk(requested: LayerType, disk: DiskToPlan, deps: PlanDeps): Promise<DiskPlan> {
  if (requested === 'full') return full(null);
  const latest = latestOf(deps.history, disk.diskIndex);
  if (latest === null) return full(NO_EARLIER_BACKUP);
  if (latest.disk.damage !== null) return full(`the chain is damaged: ${latest.disk.damage}`);
  try {
    const chain = await layerChain(deps.root, deps.vmUuid, disk.diskIndex, latest.disk.layer);
    await recheckChanged(chain, disk.diskIndex, deps);
    return planOnChain(
      requested,
      disk,
      requested === 'differential' ? fromOldest(chain, deps.history) : chain,
      deps.maxDepth,
    );
  } catch (error) {
    if (!isChainDamage(error)) throw error;
    await deps.onDamage(disk.diskIndex, String(error.fields['layer'] ?? latest.disk.layer), error);
    return full(`the chain is damaged: ${error.message}`);
  }
}

/**
 * The chain from its oldest restore point down. A retired layer below shows no restore point: while it takes in a newer
 * layer, what it shows by itself is a mixture, and its rows tell what it was. Pure.
 */
function fromOldest(chain: readonly ChainLayer[], history: readonly Backup[]): readonly ChainLayer[] {
  const oldest = chain.findLastIndex(({ layer, sidecar }) =>
    history.some(
      ({ id, disks }) =>
        id === sidecar.backup_id &&
        disks.some((disk) => disk.diskIndex === sidecar.disk_index && disk.layer === layer),
    ),
  );
  return oldest < 0 ? [] : chain.slice(oldest);
}

function planOnChain(
  requested: LayerType,
  disk: DiskToPlan,
  layers: readonly ChainLayer[],
  maxDepth: number,
): DiskPlan {
  const [parent] = layers;
  if (!parent) return full('the chain is empty');
  if (parent.sidecar.disk_key !== disk.diskKey) return full('another disk stands at this place now');
  if (parent.sidecar.virtual_size_bytes > disk.sizeBytes) {
    // rows and layers beyond a shrunk end would come to light again when the disk grows
    return full(`the disk shrank from ${parent.sidecar.virtual_size_bytes} to ${disk.sizeBytes} bytes`);
  }
  if (layers.length >= maxDepth)
    return full(`the chain has ${layers.length} layers, the limit is ${maxDepth}`);
  return { type: requested, reason: null, parent: { backupId: parent.sidecar.backup_id, layers } };
}

/** The newest restore point that has this disk. Pure. */
export function latestOf(
  history: readonly Backup[],
  diskIndex: number,
): { backup: Backup; disk: BackupDisk } | null {
  for (const backup of history.toReversed()) {
    const disk = backup.disks.find((candidate) => candidate.diskIndex === diskIndex);
    if (disk) return { backup, disk };
  }
  return null;
}

/** A file whose size or time differs from when it was last known to be good is checked before it is built upon. */
async function recheckChanged(
  chain: readonly ChainLayer[],
  diskIndex: number,
  deps: PlanDeps,
): Promise<void> {
  for (const layer of chain) {
    const owner = deps.history.find((backup) => backup.id === layer.sidecar.backup_id);
    const known = owner?.disks.find((disk) => disk.diskIndex === diskIndex)?.fingerprint ?? null;
    if (known === layer.fingerprint) continue;
    const result = await checkLayer(layer.image, deps.signal);
    if (!result.clean)
      throw new SendenseError('LAYER_CORRUPT', { layer: layer.layer, detail: result.detail });
    if (owner) deps.onChecked(owner.id, diskIndex, layer.fingerprint);
  }
}
