import { SendenseError } from '../../base/sendense-error.ts';
import type { Backup } from '../../catalog/backups.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import { layerChain } from '../../repository/layers/layer-chain.ts';
import { confirmRepository } from '../../repository/open-repository.ts';
import type { Repositories } from '../repository/repositories.ts';

export interface ReadableDisk {
  readonly diskIndex: number;
  /** Absolute paths of the layers, newest first, the full last; each was checked. */
  readonly chain: readonly string[];
}

/**
 * The layers of a restore point, each checked against its sidecar.
 * @param diskIndex one disk, or null for all
 * @throws DISK_UNKNOWN, CHAIN_PARENT_MISSING, LAYER_REFUSED, LAYER_CORRUPT, REPOSITORY_UNAVAILABLE
 */
export async function readableDisks(
  deps: { catalog: Catalog; repositories: Repositories },
  backup: Backup,
  diskIndex: number | null,
): Promise<ReadableDisk[]> {
  const vm = deps.catalog.vms.byContext(backup.contextId);
  const repository = deps.repositories.byId(backup.repositoryId);
  await confirmRepository(repository);
  const { root } = repository;
  const disks = backup.disks.filter((disk) => diskIndex === null || disk.diskIndex === diskIndex);
  if (!vm || disks.length === 0)
    throw new SendenseError('DISK_UNKNOWN', {
      subject: `The backup ${backup.id}`,
      disk: diskIndex ?? '(any)',
    });
  return await Promise.all(
    disks.map(async (disk) => {
      const layers = await layerChain(root, vm.vmUuid, disk.diskIndex, disk.layer);
      return { diskIndex: disk.diskIndex, chain: layers.map((layer) => layer.image) };
    }),
  );
}
