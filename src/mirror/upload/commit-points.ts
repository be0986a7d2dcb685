import { hasCode, SendenseError } from '../../base/sendense-error.ts';
import { BLOCK_BYTES } from '../../nbd/mover/rows/rows.ts';
import { digestOf } from '../crypto/key-ring.ts';
import { type ChainDocument, MIRROR_FORMAT, type PointManifest } from '../documents.ts';
import { layout } from '../layout.ts';
import { readManifest, sealDocuments, sealManifest } from '../points/read-point.ts';
import type { PreparedPoint, SyncDeps } from './sync-deps.ts';
import type { BackupInput } from './sync-task.ts';

/**
 * Rows and chains first, then the manifests, each with one PUT that never replaces another; but for points that are
 * damaged, which are made anew.
 */
export async function commitPoints(
  deps: SyncDeps,
  backup: BackupInput,
  points: readonly PreparedPoint[],
): Promise<void> {
  const { progress } = deps;
  const manifests = points.map((point) => manifestOf(deps, backup, point));
  for (const { disk, body, chain } of points) {
    await putDocument(deps, disk.point, layout.rows(disk.point), body);
    await putDocument(deps, disk.point, layout.chain(disk.point), chainBody(chain));
    progress.storedBytes += body.length;
  }
  for (const manifest of manifests) {
    if (deps.signal.aborted) throw new SendenseError('CANCELLED');
    await putManifest(deps, manifest);
  }
}

/**
 * What an attempt that ended has left is replaced, but never under a manifest that stands: two appliances that have the
 * same restore point would take each other's rows away.
 * @throws MIRROR_CONFLICT
 */
async function putDocument(deps: SyncDeps, point: string, key: string, body: Buffer): Promise<void> {
  const { mirror, retention, damaged } = deps;
  const { store } = mirror;
  try {
    await store.put(key, body, { ifAbsent: true, retention });
    return;
  } catch (error) {
    if (!hasCode(error, 'MIRROR_CONFLICT')) throw error;
    const found = await store.head(key);
    const stands = (await store.head(layout.manifest(point))) !== null;
    if (stands && !damaged.has(point)) throw error;
    await store.put(key, body, { ...(found ? { ifMatch: found.etag } : { ifAbsent: true }), retention });
  }
}

/** @throws MIRROR_CONFLICT when another one stands */
async function putManifest(deps: SyncDeps, manifest: PointManifest): Promise<void> {
  const { mirror, retention, damaged } = deps;
  const { store } = mirror;
  const body = Buffer.from(`${JSON.stringify(manifest, null, 2)}\n`);
  const key = layout.manifest(manifest.name);
  const found = damaged.has(manifest.name) ? await store.head(key) : null;
  try {
    await store.put(key, body, { ...(found ? { ifMatch: found.etag } : { ifAbsent: true }), retention });
  } catch (error) {
    // an answer that was lost makes the second try find the first one's object
    if (!hasCode(error, 'MIRROR_CONFLICT')) throw error;
    if ((await readManifest(mirror, manifest.name)).mac !== manifest.mac) throw error;
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
