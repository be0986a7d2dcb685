import { errnoOf, messageOf, SendenseError } from '../../base/sendense-error.ts';
import { checkLayer } from '../../qemu/qemu-img.ts';
import { type ChainLayer, checkLayerFile, isChainDamage } from '../layers/layer-chain.ts';
import { digestFile } from '../layers/seal-layer.ts';
import { isBeingFilled } from './retired-layer.ts';

/** What a look at the files of one layer found, without its parents. */
export interface ExaminedLayer {
  /** Null: it must not be opened. */
  readonly file: ChainLayer | null;
  /** False: QEMU would read it, but what comes out cannot be trusted. */
  readonly isSound: boolean;
  readonly damage: SendenseError | null;
}

/**
 * One layer by itself: header and sidecar, `qemu-img check`, and the digest of the row file. An earlier verdict is
 * not looked at.
 * @param deep false: header and sidecar only
 * @throws CANCELLED, TOOL_MISSING, TOOL_TIMEOUT
 */
export async function examineLayer(
  folder: string,
  layer: string,
  deep: boolean,
  signal: AbortSignal,
): Promise<ExaminedLayer> {
  let file: ChainLayer;
  try {
    file = await checkLayerFile(folder, layer, false);
  } catch (error) {
    if (isChainDamage(error)) return { file: null, isSound: false, damage: error };
    if (errnoOf(error) === null) throw error;
    return { file: null, isSound: false, damage: corrupt(layer, messageOf(error), error) };
  }
  if (!deep) return { file, isSound: true, damage: null };
  const check = await checkLayer(file.image, signal);
  if (!check.clean) return { file, isSound: false, damage: corrupt(layer, check.detail) };
  const rows = isBeingFilled(file.sidecar) ? null : await rowDamage(file);
  return { file, isSound: true, damage: rows };
}

const corrupt = (layer: string, detail: string, cause?: unknown) =>
  new SendenseError('LAYER_CORRUPT', { layer, detail }, cause);

/** The content may be as good as ever; only the proof is gone. */
export const rowsDamaged = (layer: string, detail: string, cause?: unknown) =>
  new SendenseError('ROWS_DAMAGED', { layer, detail }, cause);

async function rowDamage({ layer, rows, sidecar }: ChainLayer): Promise<SendenseError | null> {
  try {
    const found = await digestFile(rows);
    return found === sidecar.rows_b3
      ? null
      : rowsDamaged(layer, 'the row file is not the one that was sealed');
  } catch (error) {
    if (errnoOf(error) === null) throw error;
    return rowsDamaged(
      layer,
      errnoOf(error) === 'ENOENT' ? 'the row file is missing' : messageOf(error),
      error,
    );
  }
}
