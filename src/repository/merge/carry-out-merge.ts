import { rm, stat } from 'node:fs/promises';
import { syncFile } from '../../base/durable-file.ts';
import type { Logger } from '../../base/logger.ts';
import { SendenseError } from '../../base/sendense-error.ts';
import { WrittenMap } from '../../nbd/mover/written-map.ts';
import { loneLayer, readOnlyChain } from '../../qemu/block-graph.ts';
import { headerObjection, readQcow2Header } from '../../qemu/qcow2-header.ts';
import { areIdentical, checkLayer, mapImage, repairLeaks } from '../../qemu/qemu-img.ts';
import { type MergeDocument, REPOSITORY_FORMAT, type Sidecar } from '../documents.ts';
import { type ChainLayer, layerChain } from '../layers/layer-chain.ts';
import { digestFile, writeSidecar } from '../layers/seal-layer.ts';
import { layerFiles, layout } from '../layout.ts';
import { readSidecar } from '../read-repository.ts';
import { endMerge, type MergePlace, readMerge, writeMerge } from './merge-document.ts';
import { type MoveControl, moveData, movedFile } from './move-data.ts';
import type { MergeStep } from './plan-merge.ts';
import { type SwitchStep, switchLayer } from './switch-layer.ts';
import { writeMergedRows } from './write-merged-rows.ts';

export type RewriteStep =
  | MergeStep
  /** The same layer, its clusters compressed. */
  | { readonly operation: 'compress'; readonly top: string; readonly bytes: number };

export interface CarryOutDeps {
  readonly logger: Logger;
  readonly control: MoveControl;
  /** Journals each stage and each effect. */
  readonly onStep: SwitchStep;
}

/**
 * Does one step of a plan from beginning to end. Nobody else may change or lock layers of this disk meanwhile.
 * @returns the sidecar that the rewritten layer has now
 * @throws LAYER_CORRUPT and others of `layerChain`, QMP_FAILED, TOOL_FAILED, CANCELLED, SEAL_FAILED; the chain reads
 * as before then, and the step can be repeated
 */
export async function carryOutMerge(
  place: MergePlace,
  step: RewriteStep,
  deps: CarryOutDeps,
): Promise<Sidecar> {
  // an earlier one that failed in its last effects must not be forgotten
  await settleMerge(place, deps);
  const folder = layout.diskFolder(place.root, place.vmUuid, place.diskIndex);
  const chain = await layerChain(place.root, place.vmUuid, place.diskIndex, step.top);
  const merge = documentOf(step, chain);
  deps.onStep('began');
  await writeMerge(place, merge);
  const changing = changedInPlace(merge);
  if (changing !== null) await markAbsorbing(folder, changing, merge);
  deps.onStep('moving');
  let sidecar: Sidecar;
  try {
    await moveData(folder, merge, chain, deps.control);
    deps.onStep('moved');
    sidecar = await prepare(place, merge, chain, deps);
  } catch (error) {
    await settleMerge(place, deps);
    throw error;
  }
  const switching: MergeDocument = { ...merge, stage: 'switching', sidecar };
  deps.onStep('switching');
  await writeMerge(place, switching);
  // from here on nothing stops it: a reader would find papers of before and data of after
  await switchLayer(place, switching, deps.onStep);
  return sidecar;
}

function documentOf(step: RewriteStep, chain: readonly ChainLayer[]): MergeDocument {
  const [top] = chain;
  const parentLayer = {
    commit: () => (step.operation === 'commit' ? step.parent : null),
    stream: () => (step.operation === 'stream' ? step.parent : null),
    full: () => null,
    compress: () => top?.sidecar.parent_layer ?? null,
  }[step.operation]();
  const parent = chain.find(({ layer }) => layer === parentLayer);
  return {
    format: REPOSITORY_FORMAT,
    operation: step.operation,
    stage: 'moving',
    top: step.top,
    into: step.operation === 'commit' ? step.into : null,
    vanishing:
      step.operation === 'commit'
        ? [...step.between, step.into]
        : step.operation === 'stream'
          ? [...step.removed]
          : [],
    parent_layer: parentLayer,
    parent_backup_id: parent?.sidecar.backup_id ?? null,
    sidecar: null,
  };
}

async function markAbsorbing(folder: string, layer: string, merge: MergeDocument): Promise<void> {
  const sidecar = await readSidecar(folder, layer);
  const absorbing = merge.operation === 'commit' ? merge.top : (merge.vanishing[0] ?? merge.top);
  await writeSidecar(layerFiles(folder, layer), { ...sidecar, absorbing });
}

/**
 * Proves what was moved and writes the rows beside the old ones; no reader sees anything of it yet.
 * @param chain of `top` before the move
 * @returns the sidecar that `top` gets
 */
async function prepare(
  place: MergePlace,
  merge: MergeDocument,
  chain: readonly ChainLayer[],
  deps: CarryOutDeps,
): Promise<Sidecar> {
  const folder = layout.diskFolder(place.root, place.vmUuid, place.diskIndex);
  const files = layerFiles(folder, merge.top);
  const [top] = chain;
  if (!top) throw new SendenseError('CHAIN_PARENT_MISSING', { layer: merge.top });
  const image = movedFile(folder, merge);
  await prove(image, merge, top.sidecar, deps.control.signal);
  if (merge.operation === 'stream') await proveArrived(folder, merge, top.sidecar, deps.control.signal);
  if (merge.operation !== 'compress') {
    const merged = chain.filter(
      ({ layer }) => merge.operation === 'full' || layer === merge.top || merge.vanishing.includes(layer),
    );
    await writeMergedRows(
      { logger: deps.logger, workFolder: deps.control.workFolder },
      merged,
      chain,
      files.partialRows,
    );
  }
  if (merge.operation === 'compress') await proveSame(chain, image, deps.control.signal);
  await syncFile(image);
  const { absorbing: _, compressed_file_bytes: __, ...base } = top.sidecar;
  const fileBytes = (await stat(image)).size;
  const compressedBytes = compressedBytesOf(merge, chain, fileBytes);
  return {
    ...base,
    ...(compressedBytes === undefined ? {} : { compressed_file_bytes: compressedBytes }),
    parent_layer: merge.parent_layer,
    type: merge.parent_layer === null ? 'full' : base.type === 'full' ? 'incremental' : base.type,
    file_bytes: fileBytes,
    rows_b3: merge.operation === 'compress' ? base.rows_b3 : await digestFile(files.partialRows),
    // the file is another one now; what was found in the old one says nothing of it
    verification: null,
  };
}

/** What of the new file is compressed: all, what the file was before it took more in, or nothing. */
function compressedBytesOf(
  merge: MergeDocument,
  chain: readonly ChainLayer[],
  fileBytes: number,
): number | undefined {
  if (merge.operation === 'compress') return fileBytes;
  if (merge.operation === 'full') return undefined;
  const kept = merge.operation === 'commit' ? merge.into : merge.top;
  return chain.find(({ layer }) => layer === kept)?.sidecar.compressed_file_bytes;
}

/** A compressed copy takes the place of the original only when both read the same to the last byte. @throws SEAL_FAILED */
async function proveSame(chain: readonly ChainLayer[], image: string, signal: AbortSignal): Promise<void> {
  const images = chain.map((layer) => layer.image);
  const original = readOnlyChain(images);
  const copy = readOnlyChain([image, ...images.slice(1)]);
  if (!original || !copy || !(await areIdentical(original, copy, signal)))
    throw new SendenseError('SEAL_FAILED', {
      layer: chain[0]?.layer ?? '',
      detail: 'its compressed copy reads differently',
    });
}

/** The rewritten image must be clean and have exactly the header that was planned. @throws SEAL_FAILED */
async function prove(image: string, merge: MergeDocument, old: Sidecar, signal: AbortSignal): Promise<void> {
  const fail = (detail: string) => new SendenseError('SEAL_FAILED', { layer: merge.top, detail });
  const check = await checkLayer(image, signal);
  if (!check.clean) throw fail(check.detail);
  if (check.leaks) await repairLeaks(image);
  const header = await readQcow2Header(image);
  if (header === null || headerObjection(header) !== null || header.isDirty)
    throw fail('its header is not as it was made');
  // a streamed layer gets its new parent at the very end
  const backing = merge.operation === 'stream' ? old.parent_layer : merge.parent_layer;
  if (header.backingFile !== backing || header.virtualSizeBytes !== old.virtual_size_bytes)
    throw fail('its header is not as it was planned');
}

/**
 * QEMU writes its tables last, when it closes the file, and says nothing if that fails: every place that the vanishing
 * layers hold must be present in `top` itself. @throws SEAL_FAILED
 */
async function proveArrived(
  folder: string,
  merge: MergeDocument,
  { virtual_size_bytes }: Sidecar,
  signal: AbortSignal,
): Promise<void> {
  const imageOf = (layer: string) => layerFiles(folder, layer).image;
  const wanted = new WrittenMap(virtual_size_bytes);
  for (const layer of merge.vanishing)
    await mapImage(
      loneLayer(imageOf(layer)),
      ({ present, offset, length }) => {
        if (present) wanted.mark(offset, length);
      },
      signal,
    );
  let lost: number | null = null;
  await mapImage(
    loneLayer(imageOf(merge.top)),
    ({ present, offset, length }) => {
      if (!present) lost ??= wanted.firstMarked(offset, length);
    },
    signal,
  );
  if (lost !== null)
    throw new SendenseError('SEAL_FAILED', {
      layer: merge.top,
      detail: `what it takes in at byte ${lost} did not reach it`,
    });
}

/**
 * Brings a disk whose rewriting was interrupted into a state in which every restore point can be read by its papers:
 * forward where everything was proven, back where it was not. Nobody may be using the disk.
 * @returns what was under way; null: nothing
 */
export async function settleMerge(
  place: MergePlace,
  deps: Pick<CarryOutDeps, 'onStep'>,
): Promise<MergeDocument | null> {
  const merge = await readMerge(place);
  if (merge === null) return null;
  if (merge.stage === 'switching') {
    await switchLayer(place, merge, deps.onStep);
    return merge;
  }
  const folder = layout.diskFolder(place.root, place.vmUuid, place.diskIndex);
  const files = layerFiles(folder, merge.top);
  await stampLength(folder, merge);
  // what was moved in place changes nothing that anybody reads
  if (movedFile(folder, merge) === files.partial) await rm(files.partial, { force: true });
  await rm(files.partialRows, { force: true });
  await endMerge(place);
  return merge;
}

/** The layer that was being changed in place: the one that takes data in. */
const changedInPlace = ({ operation, into, top }: MergeDocument): string | null =>
  ({ commit: into, stream: top, full: null, compress: null })[operation];

/**
 * A layer that took in a part has another length now. It is written down, so that a file that is cut off later is found.
 * A retired one stays marked: what it shows by itself is a mixture until the merge is repeated.
 */
async function stampLength(folder: string, merge: MergeDocument): Promise<void> {
  const layer = changedInPlace(merge);
  if (layer === null) return;
  const files = layerFiles(folder, layer);
  const { absorbing, ...base } = await readSidecar(folder, layer);
  // never begun, or harmed: then the mark says more than a new length would
  if (absorbing === undefined || !(await checkLayer(files.image)).clean) return;
  const file_bytes = (await stat(files.image)).size;
  await writeSidecar(files, { ...base, file_bytes, ...(merge.operation === 'commit' ? { absorbing } : {}) });
}
