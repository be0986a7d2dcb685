import { errnoOf, messageOf } from '../../base/sendense-error.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import type { BackupDisk } from '../../catalog/points/backup-rows.ts';
import type { Vm } from '../../catalog/vms.ts';
import { layout } from '../../repository/layout.ts';
import { readSidecar } from '../../repository/read-repository.ts';
import type { JobContext } from '../job-work.ts';
import type { BackupDeps, BackupRequest } from './backup-deps.ts';
import { machineRef } from './plan/machine-ref.ts';

/** When the newest restore point is deleted, the one before is still a base for an incremental. */
const KEPT_POINTS = 2;

/**
 * Lets the source forget what only older layers, or an attempt that failed, began with. What a machine keeps for us
 * costs it with every write.
 */
export async function releaseUnneeded(
  deps: BackupDeps,
  { vm }: BackupRequest,
  context: JobContext,
): Promise<void> {
  if (vm.source.kind === 'image') return;
  try {
    const needed = await neededChangeIds(deps.catalog, vm);
    // a repository is away: what it needs is not known
    if (needed === null) return;
    await deps.sourceOf(vm.source.kind, vm.agentId).release(machineRef(vm), needed);
  } catch (error) {
    // the next backup does it
    context.warn(`What the source keeps for older backups could not be released: ${messageOf(error)}`);
  }
}

/** Of the newest points in each repository, and of the points that a differential would stand on. Null: not known. */
async function neededChangeIds(catalog: Catalog, vm: Vm): Promise<string[] | null> {
  const needed = new Set<string>();
  for (const { id, root } of catalog.repositories.all()) {
    const points = catalog.backups.completed(vm.contextId, id);
    for (const { diskIndex } of vm.disks) {
      const layers = points.flatMap((point) => point.disks.filter((disk) => disk.diskIndex === diskIndex));
      // what a differential stands on: the oldest point of a chain, which need not be its full any more
      const isRoot = ({ parentLayer }: BackupDisk) => !layers.some(({ layer }) => layer === parentLayer);
      const bases = [...layers.slice(-KEPT_POINTS), ...layers.filter(isRoot).slice(-KEPT_POINTS)];
      for (const { layer } of bases) {
        try {
          const sidecar = await readSidecar(layout.diskFolder(root, vm.vmUuid, diskIndex), layer);
          if (sidecar.change_id !== null) needed.add(sidecar.change_id);
        } catch (error) {
          if (errnoOf(error) === 'ENOENT') return null;
          throw error;
        }
      }
    }
  }
  return [...needed];
}
