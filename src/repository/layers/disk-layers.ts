import { join } from 'node:path';
import { errnoOf, SendenseError } from '../../base/sendense-error.ts';
import { readQcow2Header } from '../../qemu/qcow2-header.ts';
import { layerNamePattern, type Manifest, type Sidecar } from '../documents.ts';
import { layout } from '../layout.ts';
import { namesIn } from '../names-in.ts';
import { readSidecar } from '../read-repository.ts';

/** What the files of one disk say of one layer, each source by itself: any of them may be damaged. */
export interface FoundLayer {
  readonly layer: string;
  /** Every layer that a header, a sidecar or a manifest names as what this one stands on. */
  readonly parents: ReadonlySet<string>;
  /** Null when it cannot be read. */
  readonly sidecar: Sidecar | null;
}

/** Indexes of the disks that a machine has layers of. */
export async function diskIndexes(root: string, vmUuid: string): Promise<number[]> {
  const names = await namesIn(layout.vmFolder(root, vmUuid));
  return names.flatMap((name) => {
    const match = /^disk-(\d+)$/.exec(name);
    return match ? [Number(match[1])] : [];
  });
}

/**
 * All layers of one disk, unfinished ones too. Never fails for a damaged file: who decides what may go must see every
 * hint that something stands on it.
 * @param documents manifests and tombstones of the machine
 */
export async function findLayers(
  root: string,
  vmUuid: string,
  diskIndex: number,
  documents: readonly Manifest[],
): Promise<FoundLayer[]> {
  const folder = layout.diskFolder(root, vmUuid, diskIndex);
  const found: FoundLayer[] = [];
  for (const name of await namesIn(folder)) {
    const layer = name.replace(/\.partial$/, '');
    if (!layerNamePattern.test(layer)) continue;
    const parents = new Set<string>();
    const header = await readQcow2Header(join(folder, name)).catch(() => null);
    if (header?.backingFile) parents.add(header.backingFile);
    const sidecar = await readSidecar(folder, layer).catch((error: unknown) => {
      if (error instanceof SendenseError || errnoOf(error) === 'ENOENT') return null;
      throw error;
    });
    if (sidecar?.parent_layer) parents.add(sidecar.parent_layer);
    for (const { disks } of documents) {
      const disk = disks.find((candidate) => candidate.disk_index === diskIndex && candidate.layer === layer);
      if (disk?.parent_layer) parents.add(disk.parent_layer);
    }
    found.push({ layer, parents, sidecar });
  }
  return found;
}
