/** What planning needs to know of one layer of one disk. */
export interface MergeLayer {
  readonly layer: string;
  readonly parent: string | null;
  /** False when no manifest and no tombstone names it, or its papers disagree: nothing around it is touched. */
  readonly owned: boolean;
  /** Of a deleted backup. */
  readonly retired: boolean;
  /** Length of the file. */
  readonly bytes: number;
  /** Length of the part that is compressed; absent: none. */
  readonly compressedBytes?: number | undefined;
}

/** One step towards a shorter chain; `top` keeps its content and its name. */
export type MergeStep =
  /** Moves the data of `top` and of what is between down into the file `into`, which becomes `top`. */
  | {
      readonly operation: 'commit';
      readonly top: string;
      readonly into: string;
      readonly between: readonly string[];
      readonly parent: string | null;
      readonly bytes: number;
    }
  /** Moves what `top` still sees of the retired layers below up into `top`. */
  | {
      readonly operation: 'stream';
      readonly top: string;
      readonly removed: readonly string[];
      readonly parent: string;
      readonly bytes: number;
    }
  /** Writes everything that `top` shows into a new file without a parent; nothing that exists is changed. */
  | { readonly operation: 'full'; readonly top: string; readonly bytes: number };

interface Graph {
  readonly byName: ReadonlyMap<string, MergeLayer>;
  readonly children: ReadonlyMap<string, readonly MergeLayer[]>;
}

function graphOf(layers: readonly MergeLayer[]): Graph {
  const byName = new Map(layers.map((layer) => [layer.layer, layer]));
  const children = new Map<string, MergeLayer[]>();
  for (const layer of layers) {
    if (layer.parent === null) continue;
    children.set(layer.parent, [...(children.get(layer.parent) ?? []), layer]);
  }
  return { byName, children };
}

/** Retired and needed by exactly one other: it can be merged away. One with more children is cheapest left alone. */
const isSpare = (graph: Graph, layer: MergeLayer) =>
  layer.owned && layer.retired && (graph.children.get(layer.layer) ?? []).length === 1;

/** From the layer itself down to its full. A chain that is broken or circular ends where it breaks. */
export function chainBelow(layers: readonly MergeLayer[], newest: string): MergeLayer[] {
  const { byName } = graphOf(layers);
  const chain: MergeLayer[] = [];
  for (let name: string | null = newest; name !== null && chain.length <= layers.length; ) {
    const layer: MergeLayer | undefined = byName.get(name);
    if (!layer) break;
    chain.push(layer);
    name = layer.parent;
  }
  return chain;
}

/**
 * The merges that rid one disk of its retired layers, each moving as few bytes as it can. Pure. Independent of each
 * other: any subset may be done, in any order.
 */
export function planMerges(layers: readonly MergeLayer[]): MergeStep[] {
  const graph = graphOf(layers);
  const steps: MergeStep[] = [];
  for (const top of layers) {
    if (!top.owned || isSpare(graph, top)) continue;
    // nearest first: the retired layers that only `top` needs
    const run: MergeLayer[] = [];
    let parent = top.parent === null ? undefined : graph.byName.get(top.parent);
    while (parent && isSpare(graph, parent) && run.length < layers.length) {
      run.push(parent);
      parent = parent.parent === null ? undefined : graph.byName.get(parent.parent);
    }
    const lowest = run.at(-1);
    if (!lowest || (lowest.parent !== null && !parent)) continue; // nothing to do, or its chain is broken
    const between = run.slice(0, -1);
    const sum = (some: readonly MergeLayer[]) => some.reduce((total, layer) => total + layer.bytes, 0);
    const commitBytes = top.bytes + sum(between);
    const streamBytes = sum(run);
    if (parent && streamBytes < commitBytes) {
      steps.push({
        operation: 'stream',
        top: top.layer,
        removed: run.map(({ layer }) => layer),
        parent: parent.layer,
        bytes: streamBytes,
      });
    } else {
      steps.push({
        operation: 'commit',
        top: top.layer,
        into: lowest.layer,
        between: between.map(({ layer }) => layer),
        parent: lowest.parent,
        bytes: commitBytes,
      });
    }
  }
  return steps;
}

/**
 * A new full for the newest layer when its chain is too long: the only way to shorten a chain of which every restore
 * point is wanted. Null when it is short enough. Pure.
 * @param newest the layer on which the next backup will stand
 */
export function planCut(layers: readonly MergeLayer[], newest: string, maxDepth: number): MergeStep | null {
  const chain = chainBelow(layers, newest);
  if (chain.length <= maxDepth) return null;
  return { operation: 'full', top: newest, bytes: chain.reduce((total, layer) => total + layer.bytes, 0) };
}

/** A layer that grew by less than this since it was compressed is not compressed again. */
const WORTHWHILE_GROWTH = 1.25;

/** Layers of restore points whose clusters are not compressed yet, oldest name first. Pure. */
export function planCompression(
  layers: readonly MergeLayer[],
): { operation: 'compress'; top: string; bytes: number }[] {
  return layers
    .filter(
      ({ owned, retired, bytes, compressedBytes }) =>
        owned && !retired && (compressedBytes === undefined || bytes > compressedBytes * WORTHWHILE_GROWTH),
    )
    .map(({ layer, bytes }) => ({ operation: 'compress', top: layer, bytes }));
}
