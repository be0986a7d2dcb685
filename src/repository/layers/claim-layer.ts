import { open } from 'node:fs/promises';
import { firstFree } from '../../base/ids.ts';
import { errnoOf } from '../../base/sendense-error.ts';
import { layerFiles, layout } from '../layout.ts';
import { namesIn } from '../names-in.ts';
import { readTombstones } from './retired-layers.ts';

/**
 * Finds a name for a new layer and holds it with an empty `.partial`. A name stays taken as long as a tombstone speaks of
 * it: whoever removes the files of a deleted layer may come back to them until the tombstone is gone.
 * @param stem the name that it would have, without `.qcow2`; it gets a suffix when it is taken
 */
export async function claimLayer(
  place: { readonly root: string; readonly vmUuid: string; readonly diskIndex: number },
  stem: string,
): Promise<string> {
  const folder = layout.diskFolder(place.root, place.vmUuid, place.diskIndex);
  // a suffix of its own is taken off before another is given
  const base = stem.replace(/^(\w+-\d{8}-\d{6})-\d+$/, '$1');
  for (;;) {
    // in this order: files go before their tombstone does, so that no name is missed in between
    const names = await namesIn(folder);
    const spoken = await spokenOf(place);
    const isTaken = (candidate: string) =>
      spoken.has(`${candidate}.qcow2`) || names.some((name) => name.startsWith(`${candidate}.`));
    const layer = `${isTaken(stem) ? firstFree(base, isTaken) : stem}.qcow2`;
    try {
      await (await open(layerFiles(folder, layer).partial, 'wx', 0o640)).close();
      return layer;
    } catch (error) {
      if (errnoOf(error) !== 'EEXIST') throw error;
    }
  }
}

async function spokenOf(place: {
  readonly root: string;
  readonly vmUuid: string;
  readonly diskIndex: number;
}): Promise<ReadonlySet<string>> {
  const tombstones = await readTombstones(place.root, place.vmUuid);
  return new Set(
    tombstones.flatMap(({ disks }) =>
      disks.filter((disk) => disk.disk_index === place.diskIndex).map(({ layer }) => layer),
    ),
  );
}
