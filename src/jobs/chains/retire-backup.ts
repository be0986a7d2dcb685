import type { Clock } from '../../base/clock.ts';
import type { Backup } from '../../catalog/backups.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import { refreshChains } from '../../catalog/record-backup.ts';
import type { Vm } from '../../catalog/vms.ts';
import { readRetired, releaseRetired } from '../../repository/layers/retired-layers.ts';
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

/** Ends a restore point: no reader finds it any more. Its layers stay until `releaseLayers` or a merge. */
export async function retireBackup(deps: RetireDeps, place: MachinePlace, backup: Backup): Promise<void> {
  const { vm, repository } = place;
  const manifest = await findManifest(repository.root, vm.vmUuid, backup.id);
  if (manifest) await entombBackup(repository.root, manifest);
  const retired = await readRetired(repository.root, vm.vmUuid);
  deps.catalog.transaction(() => {
    deps.catalog.backups.remove(backup.id);
    deps.catalog.retired.replace(vm.contextId, repository.id, retired);
    refreshChains(deps.catalog, vm.contextId, repository.id, deps.clock.now());
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
