import type { ChainMember } from '../../repository/layers/chains.ts';
import { type MergeLayer, planCut, planMerges } from '../../repository/merge/plan-merge.ts';

/** The layers of one disk as the catalogue knows them. Pure. */
export function layersOfDisk(members: readonly ChainMember[], diskIndex: number): MergeLayer[] {
  return members.flatMap((member) =>
    member.disks
      .filter((disk) => disk.diskIndex === diskIndex)
      .map((disk) => ({
        layer: disk.layer,
        parent: disk.parentLayer,
        bytes: disk.fileBytes,
        retired: member.retired === true,
        owned: true,
      })),
  );
}

export const disksOf = (members: readonly ChainMember[]): Set<number> =>
  new Set(members.flatMap(({ disks }) => disks.map(({ diskIndex }) => diskIndex)));

/**
 * Whether a chain of this machine has layers to merge away or is too long. Pure.
 * @param members with the retired ones, in order of completion
 */
export function isConsolidationDue(members: readonly ChainMember[], maxDepth: number): boolean {
  for (const diskIndex of disksOf(members)) {
    const layers = layersOfDisk(members, diskIndex);
    if (planMerges(layers).length > 0) return true;
    const needed = new Set(layers.map(({ parent }) => parent));
    if (layers.some(({ layer, retired }) => retired && !needed.has(layer))) return true;
    const newest = members
      .findLast(
        (member) => member.retired !== true && member.disks.some((disk) => disk.diskIndex === diskIndex),
      )
      ?.disks.find((disk) => disk.diskIndex === diskIndex);
    if (newest && planCut(layers, newest.layer, maxDepth) !== null) return true;
  }
  return false;
}
