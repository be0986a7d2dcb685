import type { MirrorIndex } from '../../catalog/mirrors/mirror-index.ts';
import { layout } from '../layout.ts';
import type { Mirror } from '../mirror.ts';
import { readBaseManifest, readChain } from '../points/read-point.ts';
import type { ObjectRetention } from '../store/object-store.ts';

interface Needs {
  readonly chain: { readonly packs: readonly string[]; readonly dependencies: readonly string[] };
  readonly reusedPacks: readonly string[];
}

/**
 * Extends the locks of all that new points stand on, before they are committed: a point that is locked must not lose an
 * ancestor or a pack that it shares.
 */
export async function keepLocked(
  mirror: Mirror,
  index: MirrorIndex,
  points: readonly Needs[],
  retention: ObjectRetention | undefined,
): Promise<void> {
  if (!retention) return;
  const packs = new Set(points.flatMap(({ reusedPacks }) => reusedPacks));
  for (const id of packs) await extendPack(mirror, index, id, retention);
  for (const name of new Set(points.flatMap(({ chain }) => chain.dependencies)))
    await extendPoint(mirror, index, name, retention);
}

/** The documents of one point, its block objects and its packs. @returns how many objects were extended */
export async function extendPoint(
  mirror: Mirror,
  index: MirrorIndex,
  name: string,
  retention: ObjectRetention,
): Promise<number> {
  const { store } = mirror;
  let extended = 0;
  const extend = async (key: string) => {
    const now = await store.retentionOf(key);
    if (now !== null && now.until >= retention.until) return;
    await store.retain(key, retention);
    extended += 1;
  };
  const manifest = await readBaseManifest(mirror, name);
  const chain = await readChain(mirror, manifest);
  for (const id of chain.packs) extended += await extendPack(mirror, index, id, retention);
  for (const owner of [name, ...chain.borrowed])
    if (mirror.mode === 'plain')
      for await (const { key } of store.list(`${layout.blocks}${owner}/`)) await extend(key);
  for (const key of [layout.rows(name), layout.chain(name), layout.manifest(name), layout.retired(name)])
    if ((await store.head(key)) !== null) await extend(key);
  return extended;
}

async function extendPack(
  mirror: Mirror,
  index: MirrorIndex,
  id: string,
  retention: ObjectRetention,
): Promise<number> {
  const until = retention.until.toISOString();
  if ((index.lockedUntil(id) ?? '') >= until) return 0;
  const now = await mirror.store.retentionOf(layout.pack(id));
  const isShorter = now === null || now.until < retention.until;
  if (isShorter) await mirror.store.retain(layout.pack(id), retention);
  index.setLocked(id, isShorter ? until : now.until.toISOString());
  return isShorter ? 1 : 0;
}
