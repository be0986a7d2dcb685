import { access, rename } from 'node:fs/promises';
import { syncFile, syncFolder } from '../../base/durable-file.ts';
import { SendenseError } from '../../base/sendense-error.ts';
import { readQcow2Header } from '../../qemu/qcow2-header.ts';
import { renameBacking } from '../../qemu/qemu-img.ts';
import type { MergeDocument } from '../documents.ts';
import { rewriteOwner } from '../layers/retired-layers.ts';
import { discardLayer, writeSidecar } from '../layers/seal-layer.ts';
import { layerFiles, layout } from '../layout.ts';
import { endMerge, type MergePlace } from './merge-document.ts';
import { movedFile } from './move-data.ts';

/** Told before each effect, so that a test can stop the process exactly there. */
export type SwitchStep = (step: string) => void;

/**
 * Lets the rewritten layer take the place of the old one. Every effect is done once however often this runs, so that
 * whoever finds the document carries it out to its end. The image itself changes in one rename, or (`stream`) in one
 * write of its header: at every instant the name of the layer leads to a file with its content, and no header of a layer
 * above has to change.
 */
export async function switchLayer(
  place: MergePlace,
  merge: MergeDocument,
  onStep: SwitchStep,
): Promise<void> {
  const { root, vmUuid, diskIndex } = place;
  const folder = layout.diskFolder(root, vmUuid, diskIndex);
  const files = layerFiles(folder, merge.top);
  const { sidecar } = merge;
  if (merge.stage !== 'switching' || sidecar === null)
    throw new SendenseError('INTERNAL', { detail: `${merge.top} is not ready to be switched` });
  onStep('image');
  const moved = movedFile(folder, merge);
  if (moved !== files.image && (await exists(moved))) await rename(moved, files.image);
  if (merge.operation === 'stream' && merge.parent_layer !== null)
    await standOn(files.image, merge.parent_layer);
  await syncFolder(folder);
  onStep('rows');
  if (await exists(files.partialRows)) await rename(files.partialRows, files.rows);
  onStep('sidecar');
  await writeSidecar(files, sidecar);
  onStep('manifest');
  await rewriteOwner(root, vmUuid, sidecar, (disk) => ({
    ...disk,
    type: sidecar.type,
    parent_layer: merge.parent_layer,
    parent_backup_id: merge.parent_backup_id,
    file_bytes: sidecar.file_bytes,
  }));
  for (const layer of merge.vanishing) {
    onStep('remove');
    await discardLayer(layerFiles(folder, layer));
  }
  await syncFolder(folder);
  onStep('end');
  await endMerge(place);
}

/** What was streamed is all there and durable: the layers in between are not needed any more. */
async function standOn(image: string, parent: string): Promise<void> {
  if ((await readQcow2Header(image))?.backingFile === parent) return;
  await renameBacking(image, parent);
  await syncFile(image);
}

const exists = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );
