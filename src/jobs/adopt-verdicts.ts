import { SendenseError } from '../base/sendense-error.ts';
import type { BackupDisk } from '../catalog/backups.ts';
import type { Catalog } from '../catalog/catalog.ts';
import { chainMembers } from '../catalog/record-backup.ts';
import { membersOnLayer } from '../repository/chains.ts';
import type { Verification } from '../repository/documents.ts';
import { layout } from '../repository/layout.ts';
import type { Repository } from '../repository/open-repository.ts';
import { readSidecar } from '../repository/read-repository.ts';

/**
 * What verifications found lies beside the layers and must not be forgotten with the catalogue.
 * @param backupIds whose layers are looked at
 */
export async function adoptVerdicts(
  catalog: Catalog,
  repository: Repository,
  backupIds: readonly string[],
): Promise<void> {
  const damaged: { contextId: string; disk: BackupDisk; verdict: Verification }[] = [];
  for (const id of backupIds) {
    const backup = catalog.backups.byId(id);
    const vm = backup ? catalog.vms.byContext(backup.contextId) : null;
    if (!backup || !vm) continue;
    for (const disk of backup.disks) {
      const folder = layout.diskFolder(repository.root, vm.vmUuid, disk.diskIndex);
      // a sidecar that is missing or broken is found when the layer is read
      const sidecar = await readSidecar(folder, disk.layer).catch(() => null);
      const verdict = sidecar?.verification ?? null;
      if (verdict === null) continue;
      catalog.backups.markVerified(id, disk.diskIndex, verdict.checked_at, verdict.ok);
      if (!verdict.ok) damaged.push({ contextId: backup.contextId, disk, verdict });
    }
  }
  for (const { contextId, disk, verdict } of damaged) {
    const code = verdict.readable === true ? 'ROWS_DAMAGED' : 'LAYER_CORRUPT';
    const damage = new SendenseError(code, { layer: disk.layer, detail: verdict.detail ?? '' }).message;
    const history = chainMembers(catalog, contextId, repository.id);
    for (const id of membersOnLayer(history, disk.diskIndex, disk.layer)) {
      catalog.backups.markDamage(id, disk.diskIndex, damage);
      const own = catalog.backups.byId(id)?.disks.find((one) => one.diskIndex === disk.diskIndex);
      // what stands on a bad layer is no better, whatever was found of itself
      const at = own?.verifiedAt ?? null;
      if (at !== null) catalog.backups.markVerified(id, disk.diskIndex, at, false);
    }
  }
}
