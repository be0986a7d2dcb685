import type { ChainMember } from '../../repository/layers/chains.ts';
import { planMerges } from '../../repository/merge/plan-merge.ts';
import { disksOf, layersOfDisk } from '../chains/is-consolidation-due.ts';

/** What deleting one restore point does to the layers. */
export interface ChainEffect {
  /** Bytes of layers that nothing needs any more; they go at once. */
  readonly freedBytes: number;
  /** Bytes of layers that are merged into others; how much of them is freed depends on how much they overlap. */
  readonly mergedBytes: number;
  /** In words, one for each disk. */
  readonly texts: readonly string[];
}

/**
 * What deleting these backups does to the chains. Pure.
 * @param members all of the machine in one repository, retired ones too
 * @returns by backup id
 */
export function chainEffects(
  members: readonly ChainMember[],
  deleted: ReadonlySet<string>,
): Map<string, ChainEffect> {
  const effects = new Map(
    [...deleted].map((id) => [id, { freedBytes: 0, mergedBytes: 0, texts: [] as string[] }]),
  );
  const after = members.map((member) => (deleted.has(member.id) ? { ...member, retired: true } : member));
  for (const diskIndex of disksOf(after)) {
    let layers = layersOfDisk(after, diskIndex);
    const fates = new Map<string, { word: string; isFreed: boolean }>();
    // layers that nothing stands on go first, and then those below them
    for (;;) {
      const needed = new Set(layers.map(({ parent }) => parent));
      const free = layers.filter(({ layer, retired }) => retired && !needed.has(layer));
      if (free.length === 0) break;
      for (const { layer } of free) fates.set(layer, { word: 'removed', isFreed: true });
      const gone = new Set(free);
      layers = layers.filter((layer) => !gone.has(layer));
    }
    for (const step of planMerges(layers)) {
      const gone =
        step.operation === 'commit'
          ? [...step.between, step.into]
          : step.operation === 'stream'
            ? step.removed
            : [];
      for (const layer of gone) fates.set(layer, { word: `merged into ${step.top}`, isFreed: false });
    }
    for (const member of after) {
      const effect = effects.get(member.id);
      const disk = member.disks.find((candidate) => candidate.diskIndex === diskIndex);
      if (!effect || !disk) continue;
      const fate = fates.get(disk.layer);
      effect.texts.push(
        `disk ${diskIndex}: ${disk.layer} ${fate?.word ?? 'stays as a layer, several restore points need it'}`,
      );
      if (fate?.isFreed) effect.freedBytes += disk.fileBytes;
      else if (fate) effect.mergedBytes += disk.fileBytes;
    }
  }
  return effects;
}
