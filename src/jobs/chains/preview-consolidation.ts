import type { Catalog } from '../../catalog/catalog.ts';
import { diskIndexes } from '../../repository/layers/disk-layers.ts';
import { mergeLayersOf } from '../../repository/merge/merge-layers.ts';
import { planCompression, planCut, planMerges } from '../../repository/merge/plan-merge.ts';
import { compressionOf } from '../../repository/open-repository.ts';
import type { MachinePlace } from './retire-backup.ts';

export interface PreviewStep {
  readonly diskId: number;
  readonly operation: 'commit' | 'stream' | 'full' | 'compress';
  /** The layer that is rewritten. */
  readonly layer: string;
  /** Layers that are gone afterwards. */
  readonly vanishing: readonly string[];
  /** Bytes of the layers that are read and written anew. */
  readonly bytes: number;
}

/** What a consolidation would do now; nothing is changed. @throws FORMAT_INVALID, REPOSITORY_UNAVAILABLE */
export async function previewConsolidation(
  catalog: Catalog,
  { vm, repository }: MachinePlace,
  maxDepth: number,
): Promise<PreviewStep[]> {
  const isCompressed = (await compressionOf(repository)) === 'zstd';
  const steps: PreviewStep[] = [];
  for (const diskId of await diskIndexes(repository.root, vm.vmUuid)) {
    const layers = await mergeLayersOf({ root: repository.root, vmUuid: vm.vmUuid, diskIndex: diskId });
    const newest = catalog.backups
      .completed(vm.contextId, repository.id)
      .flatMap(({ disks }) => disks.filter(({ diskIndex }) => diskIndex === diskId))
      .at(-1);
    const cut = newest ? planCut(layers, newest.layer, maxDepth) : null;
    for (const step of [
      ...planMerges(layers),
      ...(cut ? [cut] : []),
      ...(isCompressed ? planCompression(layers) : []),
    ]) {
      const vanishing =
        step.operation === 'commit'
          ? [...step.between, step.into]
          : step.operation === 'stream'
            ? step.removed
            : [];
      steps.push({ diskId, operation: step.operation, layer: step.top, vanishing, bytes: step.bytes });
    }
  }
  return steps;
}
