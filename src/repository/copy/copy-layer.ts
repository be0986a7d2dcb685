import { join } from 'node:path';
import { syncFile } from '../../base/durable-file.ts';
import type { Logger } from '../../base/logger.ts';
import { SendenseError } from '../../base/sendense-error.ts';
import { readOnlyChain } from '../../qemu/block-graph.ts';
import { headerObjection, readQcow2Header } from '../../qemu/qcow2-header.ts';
import { checkLayer, convertImage, renameBacking, repairLeaks } from '../../qemu/qemu-img.ts';
import type { ChainLayer } from '../layers/layer-chain.ts';
import { digestFile } from '../layers/seal-layer.ts';
import type { LayerFiles } from '../layout.ts';
import { writeMergedRows } from '../merge/write-merged-rows.ts';
import { compareRows } from './compare-rows.ts';
import { copyFile } from './copy-file.ts';
import { GuestReader } from './guest-reader.ts';

export interface CopyLayerDeps {
  readonly logger: Logger;
  /** For the sockets of the tools. */
  readonly workFolder: string;
  readonly onProgress: (bytes: number) => void;
  readonly onVerify: () => void;
  readonly signal: AbortSignal;
}

/** How the copy of one layer is made. */
export interface LayerCopy {
  /** Of the restore point, newest first, each checked. */
  readonly chain: readonly ChainLayer[];
  /** What the copy stands on where it goes, newest first; empty: everything the chain shows goes into it. */
  readonly parents: readonly ChainLayer[];
  /** Where it goes; only its `partial` files are made. */
  readonly files: LayerFiles;
  readonly layer: string;
}

/** Whether the file is copied as it is; otherwise a full is made of its chain. */
export const isPlainCopy = ({ chain, parents }: Pick<LayerCopy, 'chain' | 'parents'>): boolean =>
  parents.length > 0 || chain.length === 1;

/**
 * Makes the copy of one layer and its rows under their `.partial` names and proves it: every row of the source is read
 * back from the copy. Both are on disk then.
 * @throws LAYER_CORRUPT when the source is damaged; SEAL_FAILED when the copy is; TOOL_FAILED, CANCELLED
 */
export async function copyLayer(deps: CopyLayerDeps, copy: LayerCopy): Promise<void> {
  const { chain, parents, files } = copy;
  const [top] = chain;
  if (!top) throw new SendenseError('CHAIN_PARENT_MISSING', { layer: copy.layer });
  const plain = isPlainCopy(copy);
  for (const layer of plain ? [top] : chain) await checkRowFile(layer);
  if (plain) await copyPlain(deps, copy, top);
  else await copyWhole(deps, copy);
  deps.onVerify();
  await prove(deps, copy, top, parents[0]?.layer ?? null);
  await syncFile(files.partial);
  await syncFile(files.partialRows);
}

async function checkRowFile({ layer, rows, sidecar }: ChainLayer): Promise<void> {
  const digest = await digestFile(rows).catch(() => null);
  if (digest === sidecar.rows_b3 || sidecar.absorbing !== undefined) return;
  throw new SendenseError('LAYER_CORRUPT', { layer, detail: 'its row file is damaged or missing' });
}

async function copyPlain(deps: CopyLayerDeps, copy: LayerCopy, top: ChainLayer): Promise<void> {
  const { files, parents } = copy;
  await copyFile(top.image, files.partial, deps.onProgress, deps.signal);
  const [parent] = parents;
  // another layer had this name already where the parent went
  if (parent && parent.layer !== top.sidecar.parent_layer) await renameBacking(files.partial, parent.layer);
  await copyFile(top.rows, files.partialRows, () => undefined, deps.signal);
}

async function copyWhole(deps: CopyLayerDeps, { chain, files }: LayerCopy): Promise<void> {
  const source = readOnlyChain(chain.map(({ image }) => image));
  if (!source) return;
  const bytes = chain.reduce((sum, { sidecar }) => sum + sidecar.file_bytes, 0);
  await convertImage({
    source,
    target: files.partial,
    format: 'qcow2',
    layer: { compress: false, backingName: null },
    onProgress: (fraction) => deps.onProgress(Math.round(fraction * bytes)),
    signal: deps.signal,
  });
  await writeMergedRows(deps, chain, chain, files.partialRows);
}

async function prove(
  deps: CopyLayerDeps,
  { chain, parents, files, layer }: LayerCopy,
  top: ChainLayer,
  backing: string | null,
): Promise<void> {
  const fail = (detail: string) => new SendenseError('SEAL_FAILED', { layer, detail });
  const check = await checkLayer(files.partial, deps.signal);
  if (!check.clean) throw new SendenseError('LAYER_CORRUPT', { layer: top.layer, detail: check.detail });
  if (check.leaks) await repairLeaks(files.partial);
  const header = await readQcow2Header(files.partial);
  if (header === null || headerObjection(header) !== null || header.isDirty)
    throw fail('its header is not as it was made');
  if (header.backingFile !== backing || header.virtualSizeBytes !== top.sidecar.virtual_size_bytes)
    throw fail('its header is not as it was planned');
  const copied = [files.partial, ...parents.map(({ image }) => image)];
  const differs = await firstDifference(deps, copied, files.partialRows);
  if (differs === null) return;
  const images = chain.map(({ image }) => image);
  const isSourceBad = (await firstDifference(deps, images, files.partialRows)) !== null;
  if (!isSourceBad) throw fail(`it differs from its source at byte ${differs}`);
  const detail = `its content at byte ${differs} is not what its rows say`;
  throw new SendenseError('LAYER_CORRUPT', { layer: top.layer, detail });
}

async function firstDifference(
  deps: CopyLayerDeps,
  images: readonly string[],
  rowFile: string,
): Promise<number | null> {
  const workFolder = join(deps.workFolder, 'rows');
  await using guest = await GuestReader.open({ logger: deps.logger, workFolder }, images);
  return await compareRows(guest.connection, rowFile, deps.signal);
}
