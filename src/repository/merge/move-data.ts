import { rm } from 'node:fs/promises';
import { SendenseError } from '../../base/sendense-error.ts';
import { loneLayer, readOnlyChain } from '../../qemu/block-graph.ts';
import { type GraphLayer, runBlockJob } from '../../qemu/block-job.ts';
import { convertImage } from '../../qemu/qemu-img.ts';
import type { MergeDocument } from '../documents.ts';
import type { ChainLayer } from '../layers/layer-chain.ts';
import { type LayerFiles, layerFiles } from '../layout.ts';

export interface MoveControl {
  /** For the sockets of the tool; made and removed. */
  readonly workFolder: string;
  readonly rateBytes: number | null;
  /** @param fraction 0…1 */
  readonly onProgress: (fraction: number) => void;
  readonly signal: AbortSignal;
}

/** Where the data of `top` is once it has been moved. */
export const movedFile = (folder: string, merge: MergeDocument): string => {
  if (merge.operation === 'commit' && merge.into !== null) return layerFiles(folder, merge.into).image;
  const files: LayerFiles = layerFiles(folder, merge.top);
  return merge.operation === 'stream' ? files.image : files.partial;
};

/**
 * Moves the data of one merge. At every instant, whatever happens, `top` reads as before: a commit changes only
 * what `top` hides, a stream adds to it what it shows anyway, a new file is beside it. Repeating it is fine.
 * @param chain of `top`, newest first, each checked
 * @throws QMP_FAILED, TOOL_FAILED, CANCELLED
 */
export async function moveData(
  folder: string,
  merge: MergeDocument,
  chain: readonly ChainLayer[],
  control: MoveControl,
): Promise<void> {
  const images = chain.map(({ image }) => image);
  switch (merge.operation) {
    case 'commit':
      return await commit(merge, chain, control);
    case 'stream':
      return await stream(merge, chain, control);
    case 'full':
      return await rewrite(folder, merge, images, { compress: false, backingName: null }, control);
    case 'compress':
      return await rewrite(
        folder,
        merge,
        images,
        { compress: true, backingName: merge.parent_layer },
        control,
      );
  }
}

/** The graph of a chain; one image may be written to. Zeros become zero clusters again, not data. */
function graphOf(chain: readonly ChainLayer[], writable: string): GraphLayer[] {
  const nameOf = (index: number) => `layer${index}`;
  return chain
    .map((layer, index): GraphLayer => {
      const isWritable = layer.layer === writable;
      const { backing: _, ...options } = loneLayer(layer.image);
      return {
        name: nameOf(index),
        options: isWritable
          ? {
              ...options,
              'read-only': false,
              discard: 'unmap',
              'detect-zeroes': 'unmap',
              file: { driver: 'file', filename: layer.image, discard: 'unmap' },
            }
          : options,
        backing: index + 1 < chain.length ? nameOf(index + 1) : null,
      };
    })
    .toReversed();
}

function indexOf(chain: readonly ChainLayer[], layer: string | null): number {
  const index = chain.findIndex((candidate) => candidate.layer === layer);
  if (index < 0) throw new SendenseError('CHAIN_PARENT_MISSING', { layer: layer ?? '(none)' });
  return index;
}

function commit(merge: MergeDocument, chain: readonly ChainLayer[], control: MoveControl): Promise<void> {
  const into = indexOf(chain, merge.into);
  return runBlockJob({
    ...jobControl(control),
    graph: graphOf(chain, merge.into ?? ''),
    command: 'block-commit',
    isDataOnly: false,
    args: { device: 'layer0', 'base-node': `layer${into}` },
  });
}

function stream(merge: MergeDocument, chain: readonly ChainLayer[], control: MoveControl): Promise<void> {
  const base = indexOf(chain, merge.parent_layer);
  return runBlockJob({
    ...jobControl(control),
    graph: graphOf(chain, merge.top),
    command: 'block-stream',
    // the header of `top` is changed when everything is proven and durable, see switch-layer.ts
    isDataOnly: true,
    args: { device: 'layer0', 'base-node': `layer${base}` },
  });
}

const jobControl = ({ workFolder, rateBytes, onProgress, signal }: MoveControl) => ({
  folder: workFolder,
  rateBytes,
  signal,
  onProgress: (done: number, total: number) => onProgress(total > 0 ? done / total : 0),
});

async function rewrite(
  folder: string,
  merge: MergeDocument,
  chain: readonly string[],
  layer: { compress: boolean; backingName: string | null },
  control: MoveControl,
): Promise<void> {
  const { partial } = layerFiles(folder, merge.top);
  const source = readOnlyChain(chain);
  if (!source) throw new SendenseError('CHAIN_PARENT_MISSING', { layer: merge.top });
  await rm(partial, { force: true });
  await convertImage({
    source,
    target: partial,
    format: 'qcow2',
    layer,
    rateBytes: control.rateBytes ?? undefined,
    onProgress: control.onProgress,
    signal: control.signal,
  });
}
