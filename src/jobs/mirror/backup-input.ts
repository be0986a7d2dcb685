import { SendenseError } from '../../base/sendense-error.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import type { Backup } from '../../catalog/points/backup-rows.ts';
import { pointNameFor } from '../../mirror/layout.ts';
import type { BackupInput, DiskInput } from '../../mirror/upload/sync-task.ts';
import { vmDocument } from '../../repository/documents.ts';
import { layerChain } from '../../repository/layers/layer-chain.ts';
import { digestFile } from '../../repository/layers/seal-layer.ts';
import { layout } from '../../repository/layout.ts';
import { confirmRepository } from '../../repository/open-repository.ts';
import { findManifest } from '../../repository/publish-backup.ts';
import { readDocument } from '../../repository/read-document.ts';
import type { Repositories } from '../repository/repositories.ts';
import { layerExport } from './guest-exports.ts';

/** A restore point as the mirror wants it, and the layers to be served for it. */
export interface ReadyBackup {
  /** Without the socket, which is not there yet. */
  readonly input: (socketPath: string) => BackupInput;
  readonly images: readonly { readonly name: string; readonly images: readonly string[] }[];
}

/**
 * Reads the documents of a restore point and checks its chain. The chain must be held.
 * @throws BACKUP_UNKNOWN, LAYER_CORRUPT, CHAIN_PARENT_MISSING, LAYER_REFUSED, REPOSITORY_UNAVAILABLE
 */
export async function readBackupInput(
  deps: { readonly catalog: Catalog; readonly repositories: Repositories },
  backup: Backup,
): Promise<ReadyBackup> {
  const vm = deps.catalog.vms.byContext(backup.contextId);
  const repository = deps.repositories.byId(backup.repositoryId);
  await confirmRepository(repository);
  const { root } = repository;
  const manifest = vm ? await findManifest(root, vm.vmUuid, backup.id) : null;
  if (!vm || !manifest) throw new SendenseError('BACKUP_UNKNOWN', { backup: backup.id });
  const machine = await readDocument(layout.vmFile(root, vm.vmUuid), vmDocument);
  const images: { name: string; images: string[] }[] = [];
  const disks: Omit<DiskInput, 'socketPath'>[] = [];
  for (const { disk_index, layer } of manifest.disks) {
    const chain = await layerChain(root, vm.vmUuid, disk_index, layer);
    for (const { rows, sidecar, layer: name } of chain) {
      const isSound = (await digestFile(rows).catch(() => null)) === sidecar.rows_b3;
      if (isSound && sidecar.absorbing === undefined) continue;
      const detail = isSound ? 'another one is being merged into it' : 'its row file is damaged or missing';
      throw new SendenseError('LAYER_CORRUPT', { layer: name, detail });
    }
    const [top] = chain;
    if (!top) throw new SendenseError('CHAIN_PARENT_MISSING', { layer });
    images.push({ name: diskName(disk_index), images: chain.map(({ image }) => image) });
    disks.push({
      point: pointNameFor(backup.id, disk_index),
      diskIndex: disk_index,
      sizeBytes: top.sidecar.virtual_size_bytes,
      layers: chain.map(({ rows, sidecar }, depth) => ({
        rows,
        point: pointNameFor(sidecar.backup_id, disk_index),
        exportName: layerExport(diskName(disk_index), depth),
      })),
      sidecar: top.sidecar,
    });
  }
  const { vm_uuid, vm_name, context_id, created_at } = manifest;
  return {
    images,
    input: (socketPath) => ({
      backupId: backup.id,
      vm: { vm_uuid, vm_name, context_id },
      createdAt: created_at,
      manifest,
      machine,
      disks: disks.map((disk) => ({ ...disk, socketPath })),
    }),
  };
}

const diskName = (diskIndex: number): string => `disk${diskIndex}`;
