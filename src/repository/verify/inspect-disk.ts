import { join } from 'node:path';
import { hasCode, messageOf, SendenseError } from '../../base/sendense-error.ts';
import type { DigestPool } from '../../nbd/mover/digest-pool.ts';
import type { ChainLayer } from '../layers/layer-chain.ts';
import type { ChainView, ChainViews } from './chain-views.ts';
import { type ExaminedLayer, examineLayer, rowsDamaged } from './examine-layer.ts';
import { findCulprit } from './find-culprit.ts';
import { type BadPlace, inspectView, type ViewOutcome } from './inspect-view.ts';
import type { Pace } from './pace.ts';
import { isBeingFilled } from './retired-layer.ts';

/** So many bad places of one restore point are traced to the layer at fault; the others count for the same. */
const MAX_TRACED = 8;
/** Longest chain that is followed, as when it is read. */
const MAX_CHAIN_LAYERS = 512;

export interface DiskDeps {
  readonly views: ChainViews;
  readonly pool: DigestPool;
  readonly pace: Pace;
  readonly signal: AbortSignal;
}

/** A place where the guest would not see what was backed up. */
export interface TracedPlace {
  readonly offset: number;
  readonly size: number;
  readonly detail: string;
}

/** What is wrong with one layer. */
export interface LayerDamage {
  readonly layer: string;
  readonly error: SendenseError;
  /** Empty when it is the file as a whole. */
  readonly places: readonly TracedPlace[];
  /** May be more than there are in `places`. */
  readonly placeCount: number;
}

export interface PointOutcome {
  readonly layer: string;
  /** False also when one of the layers below was found damaged. */
  readonly ok: boolean;
  readonly rows: number;
  readonly bytes: number;
  /** Found just now; each layer once. */
  readonly damages: readonly LayerDamage[];
  /** The chain from this layer down, as far as its files can be read. */
  readonly chain: readonly ChainLayer[];
  /** So many of the newest of these were compared with their rows. */
  readonly judged: number;
}

/** The rows of which layers are read for a restore point. */
export type Depth =
  /** Its own, and those of retired layers directly below: with all restore points of a chain, each row once. */
  | 'own'
  /** All that are visible at it. */
  | 'all';

/** Looks at the restore points of one disk. What it learns of a layer it learns once. */
export class DiskInspector {
  readonly #folder: string;
  readonly #isPoint: (layer: string) => boolean;
  readonly #deps: DiskDeps;
  readonly #examined = new Map<string, ExaminedLayer>();
  readonly #damaged = new Map<string, SendenseError>();

  /**
   * @param folder of the disk
   * @param isPoint true for layers that a manifest names; others are retired
   */
  constructor(folder: string, isPoint: (layer: string) => boolean, deps: DiskDeps) {
    this.#folder = folder;
    this.#isPoint = isPoint;
    this.#deps = deps;
  }

  /**
   * @param onProgress 0…1 of this restore point, and bytes read since the last call
   * @throws EXPORT_LOST, CANCELLED, TOOL_…
   */
  async inspect(
    layer: string,
    depth: Depth,
    onProgress: (fraction: number, readBytes: number) => void,
  ): Promise<PointOutcome> {
    const damages: LayerDamage[] = [];
    const chain = await this.#chain(layer, depth, (damage) => damages.push(damage));
    const judged = depth === 'all' ? chain.layers.length : this.#ownLayers(chain.layers);
    let seen: ViewOutcome | null = null;
    const mine = chain.layers.slice(0, judged);
    const canRead =
      chain.isReadable && mine.every((one) => !hasCode(this.#damaged.get(one.layer), 'ROWS_DAMAGED'));
    if (canRead) {
      try {
        seen = await this.#view(chain.layers, judged, onProgress);
        for (const damage of await this.#trace(chain.layers, seen)) {
          // a layer that was judged before told all its places then
          if (!this.#damaged.has(damage.layer)) damages.push(damage);
          this.#note(damage);
        }
      } catch (error) {
        if (!hasCode(error, 'FORMAT_INVALID', 'FORMAT_TOO_NEW', 'QMP_FAILED')) throw error;
        damages.push(this.#note(wholeFile(mine, error)));
      }
    }
    const ok =
      chain.isReadable && seen?.badCount === 0 && !chain.layers.some((one) => this.#damaged.has(one.layer));
    return {
      layer,
      ok,
      rows: seen?.rows ?? 0,
      bytes: seen?.bytes ?? 0,
      damages,
      chain: chain.layers,
      judged,
    };
  }

  async #chain(layer: string, depth: Depth, onDamage: (damage: LayerDamage) => void) {
    const layers: ChainLayer[] = [];
    let isReadable = true;
    // below the nearest older restore point each layer is looked at with its own point
    let isDeep = true;
    for (let next: string | null = layer; next !== null; ) {
      const isKnown = this.#damaged.has(next);
      const examined: ExaminedLayer = await this.#examine(next, isDeep);
      if (examined.damage !== null && !isKnown) {
        const damage = { layer: next, error: examined.damage, places: [], placeCount: 0 };
        onDamage(this.#note(damage));
      }
      if (!examined.isSound) isReadable = false;
      if (examined.file === null) break;
      layers.push(examined.file);
      next = examined.file.sidecar.parent_layer;
      if (depth === 'own' && next !== null && this.#isPoint(next)) isDeep = false;
      const isLoop: boolean = layers.length >= MAX_CHAIN_LAYERS || layers.some((one) => one.layer === next);
      if (isLoop) {
        const error = new SendenseError('LAYER_REFUSED', { layer, detail: 'its chain has no end' });
        onDamage(this.#note({ layer, error, places: [], placeCount: 0 }));
        return { layers, isReadable: false };
      }
    }
    return { layers, isReadable };
  }

  async #examine(layer: string, deep: boolean): Promise<ExaminedLayer> {
    const key = join(layer, String(deep));
    const known = this.#examined.get(key) ?? this.#examined.get(join(layer, 'true'));
    if (known) return known;
    const examined = await examineLayer(this.#folder, layer, deep, this.#deps.signal);
    this.#examined.set(key, examined);
    return examined;
  }

  #note(damage: LayerDamage): LayerDamage {
    if (!this.#damaged.has(damage.layer)) this.#damaged.set(damage.layer, damage.error);
    return damage;
  }

  /** The layer of the restore point and the retired ones between it and the next point. */
  #ownLayers(layers: readonly ChainLayer[]): number {
    const next = layers.findIndex((one, index) => index > 0 && this.#isPoint(one.layer));
    return next < 0 ? layers.length : next;
  }

  async #view(
    layers: readonly ChainLayer[],
    judged: number,
    onProgress: (fraction: number, readBytes: number) => void,
  ): Promise<ViewOutcome> {
    const openAt = (from: number) => this.#openAt(layers, from);
    await using view = await openAt(0);
    await using base = judged < layers.length ? await openAt(judged) : null;
    return await inspectView({ chain: layers, judged, view, base, openAt }, { ...this.#deps, onProgress });
  }

  #openAt(layers: readonly ChainLayer[], from: number): Promise<ChainView> {
    return this.#deps.views.open(layers.slice(from).map((layer) => layer.image));
  }

  /** Gathers bad places under the layer at fault. */
  async #trace(layers: readonly ChainLayer[], seen: ViewOutcome): Promise<LayerDamage[]> {
    const found = new Map<number, BadPlace[]>();
    let culprit = 0;
    for (const [index, place] of seen.bad.entries()) {
      if (index < MAX_TRACED)
        culprit = await findCulprit(layers, place, {
          ...this.#deps,
          openAt: (from) => this.#openAt(layers, from),
        });
      found.set(culprit, [...(found.get(culprit) ?? []), place]);
    }
    return [...found].flatMap(([index, places]) => {
      const at = layers[index];
      const [first] = places;
      if (!at || !first) return [];
      const untold = seen.badCount - seen.bad.length;
      const placeCount = places.length + (index === culprit ? untold : 0);
      const more = placeCount > 1 ? ` (and at ${placeCount - 1} more places)` : '';
      const fields = { layer: at.layer, detail: `at byte ${first.offset}: ${first.detail}${more}` };
      const told = places.map(({ offset, size, detail }) => ({ offset, size, detail }));
      return [
        { layer: at.layer, error: new SendenseError('LAYER_CORRUPT', fields), places: told, placeCount },
      ];
    });
  }
}

/** Rows that cannot be read, or an image that QEMU does not open. */
function wholeFile(mine: readonly ChainLayer[], error: unknown): LayerDamage {
  const path = error instanceof SendenseError ? error.fields['path'] : undefined;
  const owner = mine.find((one) => one.rows === path && !isBeingFilled(one.sidecar)) ?? mine[0];
  const layer = owner?.layer ?? '';
  const told = hasCode(error, 'QMP_FAILED')
    ? new SendenseError('LAYER_CORRUPT', { layer, detail: messageOf(error) }, error)
    : rowsDamaged(layer, String(error instanceof SendenseError ? error.fields['detail'] : error), error);
  return { layer, error: told, places: [], placeCount: 0 };
}
