import type { Clock } from '../../base/clock.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import type { Backup } from '../../catalog/points/backup-rows.ts';
import { refreshChains } from '../../catalog/points/record-backup.ts';
import type { Vm } from '../../catalog/vms.ts';
import { releaseRetired } from '../../repository/layers/retired-layers.ts';
import type { Repository } from '../../repository/open-repository.ts';
import { entombBackup, findManifest } from '../../repository/publish-backup.ts';

interface RetireDeps {
  readonly catalog: Catalog;
  readonly clock: Clock;
}

/** A machine's place in one repository. The caller holds the chain lock. */
export interface MachinePlace {
  readonly vm: Vm;
  readonly repository: Repository;
}

/**
 * Ends restore points, one after another: no reader finds them any more. Their layers stay until `releaseLayers` or a
 * merge.
 */
export async function retireBackups(
  deps: RetireDeps,
  place: MachinePlace,
  backupIds: readonly string[],
  around: (backupId: string, retire: () => Promise<void>) => Promise<void> = (_, retire) => retire(),
): Promise<void> {
  const { catalog, clock } = deps;
  const { vm, repository } = place;
  try {
    for (const id of backupIds) {
      const backup = catalog.backups.byId(id);
      if (backup) await around(id, () => retire(catalog, place, backup));
    }
  } finally {
    // once for all of them: it looks at every restore point of the machine
    refreshChains(catalog, vm.contextId, repository.id, clock.now());
  }
}

async function retire(catalog: Catalog, { vm, repository }: MachinePlace, backup: Backup): Promise<void> {
  const manifest = await findManifest(repository.root, vm.vmUuid, backup.id);
  if (manifest) await entombBackup(repository.root, manifest);
  catalog.transaction(() => {
    catalog.backups.remove(backup.id);
    if (manifest) catalog.retired.add(vm.contextId, repository.id, manifest);
  });
}

/** Removes the layers of deleted backups that nobody needs. @returns bytes that the file system got back */
export async function releaseLayers(deps: RetireDeps, place: MachinePlace): Promise<number> {
  const { vm, repository } = place;
  const released = await releaseRetired(repository.root, vm.vmUuid);
  deps.catalog.transaction(() => {
    deps.catalog.retired.replace(vm.contextId, repository.id, released.retired);
    refreshChains(deps.catalog, vm.contextId, repository.id, deps.clock.now());
  });
  return released.bytes;
}
