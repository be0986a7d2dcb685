import { lstat } from 'node:fs/promises';
import { errnoOf, hasCode, messageOf, SendenseError } from '../../base/sendense-error.ts';
import { headerObjection, readQcow2Header } from '../../qemu/qcow2-header.ts';
import type { Sidecar } from '../documents.ts';
import { layerFiles, layout } from '../layout.ts';
import { readSidecar } from '../read-repository.ts';

/** A layer whose file was found to be what its sidecar says. */
export interface ChainLayer {
  readonly layer: string;
  readonly image: string;
  readonly rows: string;
  readonly sidecar: Sidecar;
  /** Changes whenever the file does: size and modification time. */
  readonly fingerprint: string;
}

/** Longer than any chain we make; ends a loop of crafted sidecars. */
const MAX_CHAIN_LAYERS = 512;

/**
 * The layers that make up one restore point of one disk, newest first, the full last. Every file is checked
 * against its sidecar before anything opens it.
 * @throws CHAIN_PARENT_MISSING, LAYER_REFUSED, LAYER_CORRUPT, FORMAT_INVALID
 */
export async function layerChain(
  root: string,
  vmUuid: string,
  diskIndex: number,
  newest: string,
): Promise<ChainLayer[]> {
  const folder = layout.diskFolder(root, vmUuid, diskIndex);
  const chain: ChainLayer[] = [];
  for (let layer: string | null = newest; layer !== null; ) {
    if (chain.length >= MAX_CHAIN_LAYERS || chain.some((known) => known.layer === layer)) {
      throw new SendenseError('LAYER_REFUSED', { layer, detail: 'its chain has no end' });
    }
    const checked: ChainLayer = await checkLayerFile(folder, layer);
    chain.push(checked);
    layer = checked.sidecar.parent_layer;
  }
  return chain;
}

/**
 * One layer against its sidecar, without its parents.
 * @param trustMark false: also a layer that an earlier check found damaged, in order to look again
 * @throws as layerChain
 */
export async function checkLayerFile(folder: string, layer: string, trustMark = true): Promise<ChainLayer> {
  const files = layerFiles(folder, layer);
  const refuse = (detail: string) => new SendenseError('LAYER_REFUSED', { layer, detail });
  const sidecar = await readSidecarOrMissing(folder, layer);
  const stats = await lstat(files.image).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') throw new SendenseError('CHAIN_PARENT_MISSING', { layer }, error);
    throw new SendenseError('LAYER_CORRUPT', { layer, detail: messageOf(error) }, error);
  });
  if (!stats.isFile()) throw refuse('it is no regular file');
  if (sidecar.layer !== layer || sidecar.disk_index !== diskIndexOf(folder))
    throw refuse('its sidecar belongs to another layer');
  if (trustMark && sidecar.verification?.ok === false && sidecar.verification.readable !== true)
    throw new SendenseError('LAYER_CORRUPT', {
      layer,
      detail: sidecar.verification.detail ?? 'an earlier check failed',
    });
  const header = await readQcow2Header(files.image).catch((error: unknown) => {
    throw new SendenseError('LAYER_CORRUPT', { layer, detail: messageOf(error) }, error);
  });
  if (header === null) throw new SendenseError('LAYER_CORRUPT', { layer, detail: 'it has no qcow2 header' });
  const objection = headerObjection(header);
  if (objection !== null) throw refuse(objection);
  if (header.backingFile !== sidecar.parent_layer)
    throw refuse(
      `its header names the backing file ${JSON.stringify(header.backingFile)} instead of ${JSON.stringify(sidecar.parent_layer)}`,
    );
  if (header.backingFile !== null && header.backingFormat !== 'qcow2')
    throw refuse('its header gives no backing format qcow2');
  // one that takes in a layer of a disk that grew grows with it
  const hasGrown = sidecar.absorbing !== undefined && header.virtualSizeBytes > sidecar.virtual_size_bytes;
  if (header.virtualSizeBytes !== sidecar.virtual_size_bytes && !hasGrown)
    throw refuse('its virtual size is not the one it was sealed with');
  // a layer that takes data in only grows
  const isLonger = sidecar.absorbing !== undefined && stats.size > sidecar.file_bytes;
  if (stats.size !== sidecar.file_bytes && !isLonger) {
    throw new SendenseError('LAYER_CORRUPT', {
      layer,
      detail: `the file has ${stats.size} bytes instead of ${sidecar.file_bytes}`,
    });
  }
  return {
    layer,
    image: files.image,
    rows: files.rows,
    sidecar,
    fingerprint: `${stats.size}:${stats.mtimeMs}`,
  };
}

const diskIndexOf = (folder: string) => Number(/disk-(\d+)$/.exec(folder)?.[1] ?? -1);

async function readSidecarOrMissing(folder: string, layer: string): Promise<Sidecar> {
  try {
    return await readSidecar(folder, layer);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') throw new SendenseError('CHAIN_PARENT_MISSING', { layer }, error);
    throw error;
  }
}

/** True for the errors that say: this chain cannot carry another layer. */
export const isChainDamage = (error: unknown): error is SendenseError =>
  hasCode(
    error,
    'CHAIN_PARENT_MISSING',
    'LAYER_REFUSED',
    'LAYER_CORRUPT',
    'FORMAT_INVALID',
    'FORMAT_TOO_NEW',
  );
