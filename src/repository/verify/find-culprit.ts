import { NbdReplyError } from '../../nbd/client/protocol.ts';
import type { DigestPool } from '../../nbd/mover/digest-pool.ts';
import { BLOCK_BYTES, type Row, readRows } from '../../nbd/mover/rows/rows.ts';
import type { ChainLayer } from '../layers/layer-chain.ts';
import type { ChainView } from './chain-views.ts';
import type { BadPlace } from './inspect-view.ts';
import { isBeingFilled } from './retired-layer.ts';

interface CulpritDeps {
  readonly pool: DigestPool;
  readonly signal: AbortSignal;
  /** Opens the chain from this layer down. */
  readonly openAt: (layer: number) => Promise<ChainView>;
}

/**
 * Which layer of the chain spoils a place. A row covers a whole block, of which its layer may hold only some clusters:
 * when the layer below reads wrong at the same place, the fault lies there.
 * @param chain newest first
 * @returns index in the chain
 */
export async function findCulprit(
  chain: readonly ChainLayer[],
  place: BadPlace,
  deps: CulpritDeps,
): Promise<number> {
  const isBad = (layer: number) => isBadAt(chain, layer, place, deps);
  // read at its own layer the row may be right: then something above it lies over it
  if (place.layer > 0 && (await isBad(place.layer)) === false) {
    for (let above = place.layer - 1; above > 0; above -= 1)
      if (await isWrong(chain, above, place, deps)) return above;
    return 0;
  }
  let culprit = place.layer;
  for (let below = culprit + 1; below < chain.length; below += 1) {
    const verdict = await isBad(below);
    if (verdict === false) break;
    if (verdict === true) culprit = below;
  }
  return culprit;
}

/** Null: this layer has no row there, or its rows say nothing now. */
async function isBadAt(
  chain: readonly ChainLayer[],
  layer: number,
  place: BadPlace,
  deps: CulpritDeps,
): Promise<boolean | null> {
  const owner = chain[layer];
  if (!owner || isBeingFilled(owner.sidecar)) return null;
  const rows = await rowsAt(owner.rows, place);
  if (rows.length === 0) return null;
  await using view = await deps.openAt(layer);
  for (const row of rows) if (!(await matches(view, row, place, deps))) return true;
  return false;
}

/** Read through this layer, does the row of the older layer still show? */
async function isWrong(
  chain: readonly ChainLayer[],
  layer: number,
  place: BadPlace,
  deps: CulpritDeps,
): Promise<boolean> {
  const rows = await rowsAt(chain[place.layer]?.rows ?? '', place);
  await using view = await deps.openAt(layer);
  for (const row of rows) if (!(await matches(view, row, place, deps))) return true;
  return false;
}

async function rowsAt(file: string, place: BadPlace): Promise<Row[]> {
  const found: Row[] = [];
  for await (const row of readRows(file)) {
    if (row.offset >= place.offset + place.size) break;
    if (row.offset + row.size > place.offset) found.push(row);
  }
  return found;
}

async function matches(view: ChainView, row: Row, place: BadPlace, deps: CulpritDeps): Promise<boolean> {
  deps.signal.throwIfAborted();
  // of a zero row, which may be as long as the disk, only the place itself
  const from = row.zero ? Math.max(row.offset, place.offset) : row.offset;
  const end = row.zero ? Math.min(row.offset + row.size, place.offset + place.size) : row.offset + row.size;
  const size = Math.min(end, view.sizeBytes) - from;
  if (size <= 0 || size > BLOCK_BYTES) return true;
  try {
    await view.read(from, deps.pool.slot(0, size));
  } catch (error) {
    if (error instanceof NbdReplyError) return false;
    throw error;
  }
  return (await deps.pool.digest(0, size)).digest === (row.b3 ?? null);
}
