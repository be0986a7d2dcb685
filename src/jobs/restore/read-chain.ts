import { SendenseError } from '../../base/sendense-error.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import type { Backup } from '../../catalog/points/backup-rows.ts';
import { type ChainLayer, layerChain } from '../../repository/layers/layer-chain.ts';
import { digestFile } from '../../repository/layers/seal-layer.ts';
import { confirmRepository } from '../../repository/open-repository.ts';
import type { Repositories } from '../repository/repositories.ts';

export interface ReadableDisk {
  readonly diskIndex: number;
  /** Absolute paths of the layers, newest first, the full last; each was checked. */
  readonly chain: readonly string[];
  /**
   * Row files of the same layers, when every one is as it was sealed; else none. Read only when it is called: it
   * digests them.
   */
  readonly soundRows: () => Promise<readonly string[]>;
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
      return {
        diskIndex: disk.diskIndex,
        chain: layers.map((layer) => layer.image),
        soundRows: () => soundRows(layers),
      };
    }),
  );
}

async function soundRows(layers: readonly ChainLayer[]): Promise<readonly string[]> {
  for (const { rows, sidecar } of layers) {
    // while a layer takes another one in, its rows say little
    if (sidecar.absorbing !== undefined) return [];
    if ((await digestFile(rows).catch(() => null)) !== sidecar.rows_b3) return [];
  }
  return layers.map(({ rows }) => rows);
}
