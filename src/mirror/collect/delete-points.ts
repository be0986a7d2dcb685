import { hasCode, SendenseError } from '../../base/sendense-error.ts';
import type { MirrorIndex } from '../../catalog/mirrors/mirror-index.ts';
import { layout } from '../layout.ts';
import type { Mirror, MirrorWriter } from '../mirror.ts';
import { confirmOwner } from '../owner.ts';
import { listPointNames, readBaseManifest, readChain } from '../points/read-point.ts';

/**
 * Deletes restore points: their manifests, which makes them unlisted at once. One that others stand on leaves its
 * manifest under another name. What nothing needs any more is found by the next two runs of the collector.
 * @throws MIRROR_LOCKED before anything is deleted, MIRROR_FENCED
 */
export async function deletePoints(
  mirror: Mirror,
  writer: MirrorWriter,
  index: MirrorIndex,
  points: readonly string[],
): Promise<{ deleted: string[] }> {
  await confirmOwner(mirror, writer);
  const { store } = mirror;
  const now = await store.now();
  for (const name of points) {
    const lock = await store.retentionOf(layout.manifest(name));
    if (lock === null || lock.until <= now) continue;
    const until = lock.until.toISOString();
    throw new SendenseError('MIRROR_LOCKED', { what: `The restore point ${name}`, until });
  }
  // somebody who was the owner before may still be about to put a point on one of these
  const isUploading = await hasUploads(mirror);
  const needed = await basesOfOthers(mirror, new Set(points));
  for (const name of points) {
    index.dropPoint(name);
    if (isUploading || needed.has(name)) await retire(mirror, name);
    await store.delete([layout.manifest(name)]);
  }
  return { deleted: [...points] };
}

/** @throws MIRROR_OBJECT_DAMAGED: what cannot be read may need anything */
export async function basesOfOthers(mirror: Mirror, going: ReadonlySet<string>): Promise<Set<string>> {
  const needed = new Set<string>();
  const look = async (name: string): Promise<void> => {
    const chain = await readChain(mirror, await readBaseManifest(mirror, name));
    for (const base of chain.dependencies) {
      if (needed.has(base)) continue;
      needed.add(base);
      // one that was made anew may stand on others than when this chain was written
      await look(base);
    }
  };
  for (const name of await listPointNames(mirror)) if (!going.has(name)) await look(name);
  return needed;
}

async function hasUploads({ store }: Mirror): Promise<boolean> {
  for await (const _ of store.list(layout.uploads)) return true;
  return false;
}

async function retire({ store }: Mirror, name: string): Promise<void> {
  try {
    const { body } = await store.get(layout.manifest(name));
    await store.put(layout.retired(name), body);
  } catch (error) {
    // an earlier attempt came further
    if (!hasCode(error, 'MIRROR_OBJECT_MISSING')) throw error;
  }
}
