import { stat } from 'node:fs/promises';
import { findLayers } from '../layers/disk-layers.ts';
import { readManifests, readRetired } from '../layers/retired-layers.ts';
import { layerFiles, layout } from '../layout.ts';
import type { MergePlace } from './merge-document.ts';
import type { MergeLayer } from './plan-merge.ts';

/** The layers of one disk as planning wants them, from the files alone. */
export async function mergeLayersOf({ root, vmUuid, diskIndex }: MergePlace): Promise<MergeLayer[]> {
  const manifests = await readManifests(root, vmUuid);
  const tombstones = await readRetired(root, vmUuid);
  const ownersOf = (documents: typeof manifests, layer: string) =>
    documents.filter(({ disks }) =>
      disks.some((disk) => disk.disk_index === diskIndex && disk.layer === layer),
    ).length;
  const found = await findLayers(root, vmUuid, diskIndex, [...manifests, ...tombstones]);
  const folder = layout.diskFolder(root, vmUuid, diskIndex);
  const layers: MergeLayer[] = [];
  for (const { layer, parents, sidecar } of found) {
    const alive = ownersOf(manifests, layer);
    const retired = ownersOf(tombstones, layer);
    const owned = sidecar !== null && parents.size <= 1 && alive + retired === 1;
    const bytes = await stat(layerFiles(folder, layer).image).then(
      ({ size }) => size,
      () => 0,
    );
    // one entry for each parent that is named: each of them must see that something stands on it
    for (const parent of parents.size === 0 ? [null] : parents)
      layers.push({
        layer,
        parent,
        owned,
        retired: retired === 1,
        bytes,
        compressedBytes: sidecar?.compressed_file_bytes,
      });
  }
  return layers;
}
