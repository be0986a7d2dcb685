import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../../base/clock.ts';
import { copyIdFor, originalOf } from '../../base/ids.ts';
import type { Logger } from '../../base/logger.ts';
import { errnoOf, SendenseError } from '../../base/sendense-error.ts';
import { formatBytes } from '../../base/units.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import type { Backup } from '../../catalog/points/backup-rows.ts';
import { recordBackup } from '../../catalog/points/record-backup.ts';
import type { Vm } from '../../catalog/vms.ts';
import { copyLayer, isPlainCopy } from '../../repository/copy/copy-layer.ts';
import { type Manifest, type ManifestDisk, type Sidecar, vmDocument } from '../../repository/documents.ts';
import { claimLayer } from '../../repository/layers/claim-layer.ts';
import { type ChainLayer, isChainDamage, layerChain } from '../../repository/layers/layer-chain.ts';
import { digestFile, discardLayer, nameLayer, writeSidecar } from '../../repository/layers/seal-layer.ts';
import { type LayerFiles, layerFiles, layout } from '../../repository/layout.ts';
import {
  confirmRepository,
  confirmWritable,
  type Repository,
  repositorySpace,
} from '../../repository/open-repository.ts';
import { findManifest, makeDiskFolder, writeManifest, writeVmFile } from '../../repository/publish-backup.ts';
import { readDocument } from '../../repository/read-document.ts';
import type { JobContext } from '../job-work.ts';
import { confirmSoon } from '../repository/confirm-soon.ts';
import { guardRepository } from '../repository/guard-repository.ts';
import { inTarget } from './choose-points.ts';

export interface CopyDeps {
  readonly catalog: Catalog;
  readonly clock: Clock;
  readonly logger: Logger;
  /** For the sockets of the tools. */
  readonly workFolder: string;
  /** Left free in the target. */
  readonly reserveBytes: number;
}

export interface CopyOrder {
  readonly backup: Backup;
  readonly vm: Vm;
  readonly source: Repository;
  readonly target: Repository;
  /** Keeps a parent in the target from being deleted while a layer is put on it. */
  readonly holdParent: (backupId: string) => void;
  readonly onProgress: (bytes: number) => void;
}

interface DiskOrder {
  readonly disk: ManifestDisk;
  readonly chain: readonly ChainLayer[];
  /** Where the layer goes on; none: it becomes a full. */
  readonly parent: { readonly backupId: string; readonly layers: readonly ChainLayer[] } | null;
}

export interface CopiedPoint {
  readonly backupId: string;
  readonly bytes: number;
}

/**
 * Copies one restore point into another repository. Layers whose parent is there go as they are; of any other disk
 * a full is made. When it throws, nothing of it is left in the target.
 * @throws LAYER_CORRUPT and others of `layerChain` for a damaged source, REPOSITORY_FULL, REPOSITORY_UNAVAILABLE,
 * SEAL_FAILED, CANCELLED
 */
export async function copyPoint(deps: CopyDeps, order: CopyOrder, outer: JobContext): Promise<CopiedPoint> {
  const { source, target } = order;
  await confirmRepository(source);
  await confirmWritable(target);
  using guard = guardRepository(target, deps.reserveBytes, outer.signal);
  const context = { ...outer, signal: guard.signal };
  const made: LayerFiles[] = [];
  try {
    return await copy(deps, order, context, { made, finishing: () => guard.finishing() });
  } catch (error) {
    const isThere = await discardUnpublished(order, context, made);
    if (outer.signal.aborted) throw new SendenseError('CANCELLED', {}, error);
    const failure = guard.failure();
    if (failure) throw failure;
    if (!isThere) await confirmSoon(target);
    await confirmSoon(source);
    throw isFull(error)
      ? new SendenseError(
          'REPOSITORY_FULL',
          { path: target.root, detail: 'its file system took no more' },
          error,
        )
      : error;
  }
}

/** @returns false when the target is away; it is cleaned up when it is back */
async function discardUnpublished(
  { backup, vm, target }: CopyOrder,
  context: JobContext,
  made: readonly LayerFiles[],
): Promise<boolean> {
  try {
    await confirmSoon(target);
    const id = copyIdFor(backup.id, target.id);
    if ((await findManifest(target.root, vm.vmUuid, id)) === null)
      for (const files of made) await discardLayer(files);
    return true;
  } catch (error) {
    if (!(error instanceof SendenseError) || error.code !== 'REPOSITORY_UNAVAILABLE') throw error;
    context.intent('left-behind');
    return false;
  }
}

/** Tools run in the C locale. */
const isFull = (error: unknown): boolean =>
  errnoOf(error) === 'ENOSPC' ||
  (error instanceof SendenseError &&
    error.code === 'TOOL_FAILED' &&
    String(error.fields['detail']).includes('No space left on device'));

async function copy(
  deps: CopyDeps,
  order: CopyOrder,
  context: JobContext,
  control: { readonly made: LayerFiles[]; readonly finishing: () => void },
): Promise<CopiedPoint> {
  const { backup, vm, source, target } = order;
  const copyId = copyIdFor(backup.id, target.id);
  const manifest = await findManifest(source.root, vm.vmUuid, backup.id);
  if (!manifest) throw new SendenseError('BACKUP_UNKNOWN', { backup: backup.id });
  const disks = await Promise.all(manifest.disks.map((disk) => planDisk(deps, order, disk)));
  await checkSpace(deps, target, disks);
  await writeVmOnce(source, target, vm.vmUuid);
  const entries: ManifestDisk[] = [];
  const fingerprints = new Map<number, string>();
  let bytes = 0;
  for (const disk of disks) {
    const { entry, fingerprint } = await copyDisk(deps, order, context, disk, control.made, bytes);
    entries.push(entry);
    fingerprints.set(entry.disk_index, fingerprint);
    bytes += entry.file_bytes;
    order.onProgress(bytes);
  }
  context.signal.throwIfAborted();
  control.finishing();
  const copied: Manifest = {
    ...manifest,
    backup_id: copyId,
    job_id: context.jobId,
    copied_from: {
      backup_id: originalOf(backup.id),
      repository_id: manifest.copied_from?.repository_id ?? source.id,
      copied_at: deps.clock.now().toISOString(),
    },
    disks: entries,
  };
  context.setPhase('publishing');
  await confirmWritable(target);
  context.intent('manifest-written', { backup_id: copyId });
  await writeManifest(target.root, copied);
  context.fact('manifest-written', { backup_id: copyId });
  context.intent('catalogued', { backup_id: copyId });
  recordBackup(deps.catalog, target, copied, fingerprints, deps.clock.now());
  context.fact('catalogued', { backup_id: copyId });
  return { backupId: copyId, bytes };
}

async function planDisk(deps: CopyDeps, order: CopyOrder, disk: ManifestDisk): Promise<DiskOrder> {
  const { backup, vm, source } = order;
  const damage = backup.disks.find(({ diskIndex }) => diskIndex === disk.disk_index)?.damage ?? null;
  if (damage !== null) throw new SendenseError('LAYER_CORRUPT', { layer: disk.layer, detail: damage });
  const chain = await layerChain(source.root, vm.vmUuid, disk.disk_index, disk.layer);
  return { disk, chain, parent: await parentInTarget(deps, order, disk, chain) };
}

async function parentInTarget(
  deps: CopyDeps,
  { vm, target, holdParent }: CopyOrder,
  { disk_index }: ManifestDisk,
  chain: readonly ChainLayer[],
): Promise<DiskOrder['parent']> {
  const owner = chain[1]?.sidecar.backup_id;
  const found = owner === undefined ? null : inTarget(deps.catalog, owner, target);
  const layer = found?.disks.find((disk) => disk.diskIndex === disk_index && disk.damage === null)?.layer;
  if (!found || layer === undefined) return null;
  holdParent(found.id);
  try {
    return { backupId: found.id, layers: await layerChain(target.root, vm.vmUuid, disk_index, layer) };
  } catch (error) {
    // what is damaged there carries nothing new
    if (isChainDamage(error)) return null;
    throw error;
  }
}

const bytesOf = ({ chain, parent }: DiskOrder): number => {
  const plain = isPlainCopy({ chain, parents: parent?.layers ?? [] });
  return chain.slice(0, plain ? 1 : chain.length).reduce((sum, { sidecar }) => sum + sidecar.file_bytes, 0);
};

async function checkSpace(deps: CopyDeps, target: Repository, disks: readonly DiskOrder[]): Promise<void> {
  const neededBytes = disks.reduce((sum, disk) => sum + bytesOf(disk), 0);
  const { availableBytes } = await repositorySpace(target.root);
  const missing = neededBytes + deps.reserveBytes - availableBytes;
  if (missing <= 0) return;
  throw new SendenseError('REPOSITORY_FULL', {
    path: target.root,
    detail: `the copy needs up to ${formatBytes(neededBytes)}, and ${formatBytes(missing)} are missing`,
    missing_bytes: missing,
  });
}

/** A machine that is backed up there too has a newer description. */
async function writeVmOnce(source: Repository, target: Repository, vmUuid: string): Promise<void> {
  try {
    await stat(layout.vmFile(target.root, vmUuid));
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error;
    await writeVmFile(target.root, await readDocument(layout.vmFile(source.root, vmUuid), vmDocument));
  }
}

async function copyDisk(
  deps: CopyDeps,
  order: CopyOrder,
  context: JobContext,
  { disk, chain, parent }: DiskOrder,
  made: LayerFiles[],
  bytesBefore: number,
): Promise<{ entry: ManifestDisk; fingerprint: string }> {
  const { backup, vm, target } = order;
  const [top] = chain;
  if (!top) throw new SendenseError('CHAIN_PARENT_MISSING', { layer: disk.layer });
  await confirmWritable(target);
  const folder = await makeDiskFolder(target.root, vm.vmUuid, disk.disk_index);
  const parents = parent?.layers ?? [];
  const type = parents.length > 0 ? disk.type : 'full';
  const stem = disk.layer
    .replace(/\.qcow2$/, '')
    .replace(/^(full|incr|diff)/, type === 'full' ? 'full' : '$1');
  const place = { root: target.root, vmUuid: vm.vmUuid, diskIndex: disk.disk_index };
  // the name that it had, as long as nothing in the target has it
  const layer = await claimLayer(place, stem);
  const files = layerFiles(folder, layer);
  const backupId = copyIdFor(backup.id, target.id);
  const detail = { disk_index: disk.disk_index, layer, backup_id: backupId, vm_uuid: vm.vmUuid };
  context.setPhase('copying');
  context.intent('layer-created', detail);
  made.push(files);
  await copyLayer(
    {
      logger: deps.logger,
      workFolder: join(deps.workFolder, context.jobId.slice(-6)),
      onProgress: (bytes) => order.onProgress(bytesBefore + bytes),
      onVerify: () => {
        context.fact('layer-created', detail);
        context.setPhase('verifying');
        context.intent('layer-verified', detail);
      },
      signal: context.signal,
    },
    { chain, parents, files, layer },
  );
  context.fact('layer-verified', detail);
  const { size, mtimeMs } = await stat(files.partial);
  const { absorbing: _, compressed_file_bytes, ...base } = top.sidecar;
  const isStillCompressed = compressed_file_bytes !== undefined && isPlainCopy({ chain, parents });
  const sidecar: Sidecar = {
    ...base,
    ...(isStillCompressed ? { compressed_file_bytes } : {}),
    layer,
    parent_layer: parents[0]?.layer ?? null,
    type,
    backup_id: backupId,
    file_bytes: size,
    rows_b3: await digestFile(files.partialRows),
    sealed_at: deps.clock.now().toISOString(),
    verification: null,
  };
  context.intent('layer-named', detail);
  await nameLayer(files);
  context.fact('layer-named', detail);
  context.intent('sidecar-written', detail);
  await writeSidecar(files, sidecar);
  context.fact('sidecar-written', detail);
  const entry: ManifestDisk = {
    ...disk,
    type,
    layer,
    parent_layer: sidecar.parent_layer,
    parent_backup_id: parent?.backupId ?? null,
    file_bytes: size,
  };
  return { entry, fingerprint: `${size}:${mtimeMs}` };
}
