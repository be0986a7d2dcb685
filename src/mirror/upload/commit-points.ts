import { hasCode, SendenseError } from '../../base/sendense-error.ts';
import { BLOCK_BYTES } from '../../nbd/mover/rows.ts';
import { digestOf } from '../crypto/key-ring.ts';
import { type ChainDocument, MIRROR_FORMAT, type PointManifest } from '../documents.ts';
import { layout } from '../layout.ts';
import { readManifest, sealDocuments, sealManifest } from '../points/read-point.ts';
import type { PreparedPoint, SyncDeps } from './sync-deps.ts';
import type { BackupInput } from './sync-task.ts';

/** Rows and chains first, then the manifests, each with one PUT that never replaces another. */
export async function commitPoints(
  deps: SyncDeps,
  backup: BackupInput,
  points: readonly PreparedPoint[],
): Promise<void> {
  const { mirror, retention, progress } = deps;
  const { store } = mirror;
  const manifests = points.map((point) => manifestOf(deps, backup, point));
  for (const { disk, body, chain } of points) {
    await store.put(layout.rows(disk.point), body, { retention });
    await store.put(layout.chain(disk.point), chainBody(chain), { retention });
    progress.storedBytes += body.length;
  }
  for (const manifest of manifests) {
    if (deps.signal.aborted) throw new SendenseError('CANCELLED');
    const body = Buffer.from(`${JSON.stringify(manifest, null, 2)}\n`);
    try {
      await store.put(layout.manifest(manifest.name), body, { ifAbsent: true, retention });
    } catch (error) {
      // an answer that was lost makes the second try find the first one's object
      if (!hasCode(error, 'MIRROR_CONFLICT')) throw error;
      const found = await readManifest(mirror, manifest.name);
      if (found.mac !== manifest.mac) throw error;
    }
  }
}

const chainBody = (chain: ChainDocument): Buffer => Buffer.from(`${JSON.stringify(chain, null, 2)}\n`);

function manifestOf(deps: SyncDeps, backup: BackupInput, point: PreparedPoint): PointManifest {
  const { mirror, writer, progress } = deps;
  const { disk, chain, body } = point;
  return sealManifest(mirror.keys, {
    format: MIRROR_FORMAT,
    name: disk.point,
    namespace: 'vm',
    pvcName: backup.vm.vm_name,
    timestamp: backup.createdAt,
    volumeSize: disk.sizeBytes,
    isIncremental: chain.isIncremental,
    totalBlocks: point.dataRows,
    totalSize: point.dataBytes,
    blockSize: mirror.mode === 'plain' ? mirror.blockBytes : BLOCK_BYTES,
    volumeMode: 'Block',
    csiDriver: '',
    mirror_id: mirror.mirrorId,
    epoch: writer.epoch,
    backup_id: backup.backupId,
    disk_index: disk.diskIndex,
    members: backup.disks.map((one) => one.point),
    vm: backup.vm,
    completed_at: String(backup.manifest['completed_at'] ?? backup.createdAt),
    documents: sealDocuments(mirror.keys, disk.point, {
      backup: backup.manifest,
      sidecar: disk.sidecar,
      machine: backup.machine,
    }),
    uploaded_at: new Date().toISOString(),
    stored_bytes: progress.storedBytes,
    blocks_digest: digestOf(body),
    chain_digest: digestOf(chainBody(chain)),
  });
}
