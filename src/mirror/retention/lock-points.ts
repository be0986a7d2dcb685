import type { MirrorIndex } from '../../catalog/mirrors/mirror-index.ts';
import { layout } from '../layout.ts';
import type { Mirror } from '../mirror.ts';
import { readBaseManifest, readChain } from '../points/read-point.ts';
import type { RetentionOrder } from '../program/mirror-task.ts';
import { extendPoint } from './keep-locked.ts';

interface LockOrder {
  readonly points: readonly string[];
  readonly retention: RetentionOrder | null;
  /** Null: as it is. */
  readonly legalHold: boolean | null;
}

/** Extends the locks of points and of all they stand on; sets or lifts a legal hold. */
export async function lockPoints(
  mirror: Mirror,
  index: MirrorIndex,
  { points, retention, legalHold }: LockOrder,
): Promise<{ extended: number }> {
  const names = new Set<string>();
  for (const name of points) {
    names.add(name);
    const chain = await readChain(mirror, await readBaseManifest(mirror, name));
    for (const base of chain.dependencies) names.add(base);
  }
  let extended = 0;
  for (const name of names) {
    if (retention !== null) {
      const { mode, until } = retention;
      extended += await extendPoint(mirror, index, name, { mode, until: new Date(until) });
    }
    if (legalHold !== null) extended += await hold(mirror, name, legalHold);
  }
  return { extended };
}

async function hold(mirror: Mirror, name: string, isHeld: boolean): Promise<number> {
  const { store } = mirror;
  const manifest = await readBaseManifest(mirror, name);
  const chain = await readChain(mirror, manifest);
  const keys = [layout.rows(name), layout.chain(name), ...chain.packs.map(layout.pack)];
  for (const key of [layout.manifest(name), layout.retired(name)])
    if ((await store.head(key)) !== null) keys.push(key);
  if (mirror.mode === 'plain')
    for (const owner of [name, ...chain.borrowed])
      for await (const { key } of store.list(`${layout.blocks}${owner}/`)) keys.push(key);
  for (const key of keys) await store.setLegalHold(key, isHeld);
  return keys.length;
}
