import { hasCode } from '../../base/sendense-error.ts';
import type { MirrorIndex } from '../../catalog/mirrors/mirror-index.ts';
import { type ChainDocument, chainDocument } from '../documents.ts';
import { layout } from '../layout.ts';
import type { Mirror } from '../mirror.ts';
import { readJson } from '../store/json-objects.ts';
import type { DiskInput } from './sync-task.ts';

/** Longer chains are slow to open; a point that is whole costs only its rows, since its blocks are there already. */
export const MAX_DEPENDENCIES = 15;

/** A point in the mirror on which the rows of a few layers are put. */
export interface Base {
  readonly name: string;
  readonly chain: ChainDocument;
  /** How many layers of the repository lie above it. */
  readonly layersAbove: number;
}

interface FindBaseDeps {
  readonly mirror: Mirror;
  readonly index: MirrorIndex;
  readonly damaged: ReadonlySet<string>;
}

/** The nearest layer below whose restore point the mirror has; null: the new point has to be whole. */
export async function findBase(
  { mirror, index, damaged }: FindBaseDeps,
  disk: DiskInput,
): Promise<Base | null> {
  for (const [position, { point }] of disk.layers.entries()) {
    if (position === 0 || !index.hasPoint(point) || damaged.has(point)) continue;
    // the index is a cache: somebody may have deleted it
    const [info, chain] = await Promise.all([
      mirror.store.head(layout.manifest(point)),
      readJson(mirror.store, layout.chain(point), chainDocument).catch((error: unknown) => {
        if (hasCode(error, 'MIRROR_OBJECT_MISSING', 'MIRROR_OBJECT_DAMAGED')) return null;
        throw error;
      }),
    ]);
    if (info === null || chain === null) {
      index.dropPoint(point);
      continue;
    }
    return chain.dependencies.length >= MAX_DEPENDENCIES
      ? null
      : { name: point, chain, layersAbove: position };
  }
  return null;
}
