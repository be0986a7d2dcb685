import { access, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { removeDurably, syncFolder, writeJsonDurably } from '../../base/durable-file.ts';
import { errnoOf, SendenseError } from '../../base/sendense-error.ts';
import { removeBootTests } from '../boot-tests/boot-tests.ts';
import { type Manifest, type ManifestDisk, manifestDocument, type Sidecar } from '../documents.ts';
import { layerFiles, layout } from '../layout.ts';
import { namesIn } from '../names-in.ts';
import { readDocument } from '../read-document.ts';
import { readManifest } from '../read-repository.ts';
import { diskIndexes, findLayers } from './disk-layers.ts';
import { discardLayer } from './seal-layer.ts';

/** Tombstones of a machine that can be read. */
export async function readTombstones(root: string, vmUuid: string): Promise<Manifest[]> {
  const folder = layout.backupsFolder(root, vmUuid);
  const tombstones: Manifest[] = [];
  for (const name of await namesIn(folder)) {
    if (!name.endsWith('.deleted')) continue;
    const manifest = await readDocument(join(folder, name), manifestDocument).catch((error: unknown) => {
      // one that cannot be read is left for a person to look at; one may go while they are read
      if (error instanceof SendenseError || errnoOf(error) === 'ENOENT') return null;
      throw error;
    });
    if (manifest?.vm_uuid === vmUuid && `${manifest.backup_id}.deleted` === name) tombstones.push(manifest);
  }
  return tombstones;
}

/** Tombstones with the disks whose layers are still there. */
export async function readRetired(root: string, vmUuid: string): Promise<Manifest[]> {
  const retired: Manifest[] = [];
  for (const manifest of await readTombstones(root, vmUuid)) {
    const disks: Manifest['disks'] = [];
    for (const disk of manifest.disks) {
      const { image } = layerFiles(layout.diskFolder(root, vmUuid, disk.disk_index), disk.layer);
      if (await exists(image)) disks.push(disk);
    }
    retired.push({ ...manifest, disks });
  }
  return retired;
}

/** Manifests of a machine that can be read. */
export async function readManifests(root: string, vmUuid: string): Promise<Manifest[]> {
  const folder = layout.backupsFolder(root, vmUuid);
  const manifests: Manifest[] = [];
  for (const name of await namesIn(folder)) {
    if (!name.endsWith('.json')) continue;
    const manifest = await readManifest(join(folder, name), vmUuid).catch((error: unknown) => {
      if (error instanceof SendenseError) return null;
      throw error;
    });
    if (manifest) manifests.push(manifest);
  }
  return manifests;
}

export interface Released {
  readonly bytes: number;
  /** Retired backups of which nothing is left. */
  readonly backupIds: readonly string[];
  /** What remains retired. */
  readonly retired: readonly Manifest[];
}

/**
 * Removes the layers of deleted backups on which nothing stands any more, and the tombstones of which nothing is left.
 * Repeating it after a crash is fine. Nobody may be adding or reading layers of the machine.
 */
export async function releaseRetired(root: string, vmUuid: string): Promise<Released> {
  const retired = await readRetired(root, vmUuid);
  const manifests = await readManifests(root, vmUuid);
  const documents = [...manifests, ...retired];
  let bytes = 0;
  for (const diskIndex of await diskIndexes(root, vmUuid)) {
    const folder = layout.diskFolder(root, vmUuid, diskIndex);
    const layers = new Map(
      (await findLayers(root, vmUuid, diskIndex, documents)).map((found) => [found.layer, found]),
    );
    const layersIn = (some: readonly Manifest[]) =>
      some.flatMap(({ disks }) =>
        disks.filter((disk) => disk.disk_index === diskIndex).map((disk) => disk.layer),
      );
    // a manifest that somebody brought back beside its tombstone is a hint like any other
    const candidates = new Set(layersIn(retired)).difference(new Set(layersIn(manifests)));
    for (let layer = freeLayer(layers, candidates); layer !== null; layer = freeLayer(layers, candidates)) {
      const files = layerFiles(folder, layer);
      bytes += await stat(files.image).then(
        (stats) => stats.blocks * 512,
        () => 0,
      );
      await discardLayer(files);
      layers.delete(layer);
      candidates.delete(layer);
    }
    await syncFolder(folder);
  }
  const left = await readRetired(root, vmUuid);
  const gone = left.filter(({ disks }) => disks.length === 0);
  for (const { backup_id } of gone) {
    // of a disk whose image was lost before, the small files are still there
    const manifest = retired.find((candidate) => candidate.backup_id === backup_id);
    for (const disk of manifest?.disks ?? [])
      await discardLayer(layerFiles(layout.diskFolder(root, vmUuid, disk.disk_index), disk.layer));
    // entombing it was interrupted; one that was copied here again has its own
    if (!manifests.some((standing) => standing.backup_id === backup_id))
      await removeBootTests(root, vmUuid, backup_id);
    await removeDurably(layout.tombstoneFile(root, vmUuid, backup_id));
  }
  return {
    bytes,
    backupIds: gone.map(({ backup_id }) => backup_id),
    retired: left.filter(({ disks }) => disks.length > 0),
  };
}

function freeLayer(
  layers: ReadonlyMap<string, { readonly parents: ReadonlySet<string> }>,
  candidates: ReadonlySet<string>,
): string | null {
  const needed = new Set([...layers.values()].flatMap(({ parents }) => [...parents]));
  for (const layer of candidates) if (layers.has(layer) && !needed.has(layer)) return layer;
  return null;
}

/**
 * Writes the manifest or the tombstone of a backup anew: the one that names the layer. There may be both, since what was
 * deleted can be copied here again. @throws FORMAT_INVALID
 */
export async function rewriteOwner(
  root: string,
  vmUuid: string,
  { backup_id, disk_index, layer }: Pick<Sidecar, 'backup_id' | 'disk_index' | 'layer'>,
  change: (disk: ManifestDisk) => ManifestDisk,
): Promise<void> {
  const isMeant = (disk: ManifestDisk) => disk.disk_index === disk_index && disk.layer === layer;
  const tombstone = layout.tombstoneFile(root, vmUuid, backup_id);
  for (const path of [layout.manifestFile(root, vmUuid, backup_id), tombstone]) {
    if (path !== tombstone && !(await exists(path))) continue;
    const document = await readDocument(path, manifestDocument);
    if (!document.disks.some(isMeant)) continue;
    const disks = document.disks.map((disk) => (isMeant(disk) ? change(disk) : disk));
    return await writeJsonDurably(path, { ...document, disks });
  }
  throw new SendenseError('FORMAT_INVALID', { path: tombstone, detail: `it does not name ${layer}` });
}

const exists = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );
