import { mkdtemp, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { syncFile } from '../../base/durable-file.ts';
import { parseInput } from '../../base/parse-input.ts';
import { errnoOf, SendenseError } from '../../base/sendense-error.ts';
import { adoptRepository } from '../../catalog/points/record-backup.ts';
import { runTask } from '../../mirror/program/run-task.ts';
import { readOnlyChain } from '../../qemu/block-graph.ts';
import { convertImage } from '../../qemu/qemu-img.ts';
import { compareRows } from '../../repository/copy/compare-rows.ts';
import { copyFile } from '../../repository/copy/copy-file.ts';
import { GuestReader } from '../../repository/copy/guest-reader.ts';
import {
  type Manifest,
  type ManifestDisk,
  manifestDocument,
  type Sidecar,
  sidecarDocument,
  type VmDocument,
  vmDocument,
} from '../../repository/documents.ts';
import { claimLayer } from '../../repository/layers/claim-layer.ts';
import { digestFile, discardLayer, nameLayer, writeSidecar } from '../../repository/layers/seal-layer.ts';
import { type LayerFiles, layerFiles, layout } from '../../repository/layout.ts';
import { confirmWritable, type Repository } from '../../repository/open-repository.ts';
import { findManifest, makeDiskFolder, writeManifest, writeVmFile } from '../../repository/publish-backup.ts';
import { readMachine } from '../../repository/read-repository.ts';
import type { ChainsChanged } from '../chains/chain-keeper.ts';
import type { JobContext } from '../job-work.ts';
import { guardRepository } from '../repository/guard-repository.ts';
import { accessOf, findRecord, type MirrorDeps } from './mirror-deps.ts';
import type { MirroredBackup } from './mirror-points.ts';
import { openMirrorDisks } from './open-mirror-disks.ts';

export interface FetchDeps {
  readonly chainsChanged: ChainsChanged;
  /** Left free in the repository. */
  readonly reserveBytes: number;
}

export interface FetchOrder {
  readonly mirror: string;
  readonly backup: MirroredBackup;
  readonly repository: Repository;
}

interface DescribedDisk {
  readonly diskIndex: number;
  readonly rowFile: string;
  readonly sidecar: Sidecar;
}

interface Described {
  readonly manifest: Manifest;
  readonly machine: VmDocument;
  readonly disks: readonly DescribedDisk[];
}

/**
 * Writes a restore point of a mirror into a repository. Every row is read back from the new layers and compared with the
 * digest that it was backed up with. When it throws, nothing of it is left there.
 * @returns the context id of its machine
 */
export async function fetchPoint(
  deps: MirrorDeps & FetchDeps,
  order: FetchOrder,
  outer: JobContext,
): Promise<string> {
  const { repository, backup } = order;
  await confirmWritable(repository);
  using guard = guardRepository(repository, deps.reserveBytes, outer.signal);
  const context: JobContext = { ...outer, signal: guard.signal };
  const made: LayerFiles[] = [];
  const folder = await mkdtemp(join(deps.runFolder, 'fetch-'));
  try {
    context.setPhase('listing');
    const described = await describe(deps, order, folder, context.signal);
    const entries = await writeDisks(deps, order, described, context, made, folder);
    guard.finishing();
    context.setPhase('publishing');
    const manifest: Manifest = { ...described.manifest, job_id: context.jobId, disks: entries };
    context.intent('manifest-written', { backup_id: backup.backupId });
    await writeManifest(repository.root, manifest);
    context.fact('manifest-written', { backup_id: backup.backupId });
    const { content } = await readMachine(repository.root, manifest.vm_uuid);
    if (content) adoptRepository(deps.catalog, repository, { vms: [content] }, deps.clock.now());
    return manifest.context_id;
  } catch (error) {
    const isPublished = await findManifest(
      repository.root,
      backup.disks[0]?.vmUuid ?? '',
      backup.backupId,
    ).catch(() => null);
    if (isPublished === null) for (const files of made) await discardLayer(files);
    if (outer.signal.aborted) throw new SendenseError('CANCELLED', {}, error);
    throw guard.failure() ?? error;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** What was uploaded comes back from a bucket: it is checked like anything that comes from outside. */
async function describe(
  deps: MirrorDeps,
  { mirror, backup }: FetchOrder,
  folder: string,
  signal: AbortSignal,
): Promise<Described> {
  const points = backup.disks.map(({ name, diskIndex }) => ({
    name,
    rowFile: join(folder, `rows-${diskIndex}`),
  }));
  const access = await accessOf(deps, findRecord(deps, mirror));
  const answer = await runTask({
    mirrorFile: deps.mirrorFile,
    task: { task: 'describe', access, points },
    signal,
  });
  const bad = (detail: string) =>
    new SendenseError('MIRROR_OBJECT_DAMAGED', { key: `metadata/${backup.disks[0]?.name}`, detail });
  const parse = <T>(schema: Parameters<typeof parseInput<T>>[0], value: unknown) =>
    parseInput(schema, value, 'a document of the repository', bad);
  const [first] = answer.points;
  const manifest = parse(manifestDocument, first?.backup);
  const machine = parse(vmDocument, first?.machine);
  if (manifest.backup_id !== backup.backupId || machine.vm_uuid !== manifest.vm_uuid)
    throw bad('its documents speak of different machines');
  const disks = answer.points.map(({ name, sidecar }) => {
    const index = backup.disks.findIndex((disk) => disk.name === name);
    return {
      diskIndex: backup.disks[index]?.diskIndex ?? -1,
      rowFile: points[index]?.rowFile ?? '',
      sidecar: parse(sidecarDocument, sidecar),
    };
  });
  return { manifest, machine, disks };
}

async function writeDisks(
  deps: MirrorDeps,
  { mirror, backup, repository }: FetchOrder,
  { manifest, machine, disks }: Described,
  context: JobContext,
  made: LayerFiles[],
  folder: string,
): Promise<ManifestDisk[]> {
  const { root } = repository;
  await writeVmOnce(root, machine);
  const opened = await openMirrorDisks(deps, mirror, backup.backupId, null);
  try {
    const entries: ManifestDisk[] = [];
    for (const described of disks) {
      const { diskIndex, rowFile, sidecar } = described;
      const source = opened.disks.find((disk) => disk.diskIndex === diskIndex);
      const entry = manifest.disks.find((disk) => disk.disk_index === diskIndex);
      const node = source ? readOnlyChain(source.chain) : null;
      if (!source || !entry || !node) throw new SendenseError('INTERNAL', { detail: `no disk ${diskIndex}` });
      const diskFolder = await makeDiskFolder(root, manifest.vm_uuid, diskIndex);
      const stem = entry.layer.replace(/\.qcow2$/, '').replace(/^(full|incr|diff)/, 'full');
      const layer = await claimLayer({ root, vmUuid: manifest.vm_uuid, diskIndex }, stem);
      const files = layerFiles(diskFolder, layer);
      const ids = { backup_id: backup.backupId, vm_uuid: manifest.vm_uuid };
      context.intent('layer-created', { disk_index: diskIndex, layer, ...ids });
      made.push(files);
      context.setPhase('fetching');
      await convertImage({
        source: node,
        target: files.partial,
        format: 'qcow2',
        layer: { compress: false, backingName: null },
        onProgress: (fraction) => tell(context, source.sizeBytes, fraction),
        signal: context.signal,
      });
      await copyFile(rowFile, files.partialRows, () => undefined, context.signal);
      context.setPhase('verifying');
      await prove(deps, folder, files, context.signal);
      await syncFile(files.partial);
      await syncFile(files.partialRows);
      const { size } = await stat(files.partial);
      await nameLayer(files);
      const { absorbing: _a, compressed_file_bytes: _c, ...base } = sidecar;
      await writeSidecar(files, {
        ...base,
        layer,
        parent_layer: null,
        type: 'full',
        backup_id: backup.backupId,
        file_bytes: size,
        rows_b3: await digestFile(files.rows),
        sealed_at: deps.clock.now().toISOString(),
        verification: null,
      });
      entries.push({
        ...entry,
        type: 'full',
        layer,
        parent_layer: null,
        parent_backup_id: null,
        file_bytes: size,
      });
    }
    return entries;
  } finally {
    await opened.close();
  }
}

/** @throws SEAL_FAILED */
async function prove(
  deps: MirrorDeps,
  folder: string,
  files: LayerFiles,
  signal: AbortSignal,
): Promise<void> {
  const place = { logger: deps.logger, workFolder: join(folder, 'g') };
  await using guest = await GuestReader.open(place, [files.partial]);
  const wrong = await compareRows(guest.connection, files.partialRows, signal);
  if (wrong === null) return;
  throw new SendenseError('SEAL_FAILED', {
    layer: files.image,
    detail: `it differs from what was backed up at byte ${wrong}`,
  });
}

/** One that is backed up here has a newer description. */
async function writeVmOnce(root: string, machine: VmDocument): Promise<void> {
  try {
    await stat(layout.vmFile(root, machine.vm_uuid));
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error;
    await writeVmFile(root, machine);
  }
}

function tell(context: JobContext, totalBytes: number, fraction: number): void {
  const processedBytes = Math.round(totalBytes * fraction);
  context.setProgress({
    totalBytes,
    processedBytes,
    transferredBytes: processedBytes,
    bytesPerSecond: 0,
    etaSeconds: null,
  });
}
