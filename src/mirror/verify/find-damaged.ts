import type { ChainDocument } from '../documents.ts';
import { layout } from '../layout.ts';

/**
 * Points that something damaged is a part of: those whose rows showed it, those that share the same pack or borrow from
 * the same folder, and all that stand on one of these.
 * @param chains of all points that could be read
 * @param keys objects that are damaged or missing
 * @param found points that showed it, or could not be read at all
 */
export function findDamaged(
  chains: ReadonlyMap<string, ChainDocument>,
  keys: Iterable<string>,
  found: Iterable<string>,
): string[] {
  const damaged = new Set(found);
  const bad = new Set(keys);
  const folders = new Set([...bad].map((key) => /^blocks\/([^/]+)\//.exec(key)?.[1]));
  for (const [name, { packs, borrowed }] of chains)
    if (packs.some((id) => bad.has(layout.pack(id))) || borrowed.some((owner) => folders.has(owner)))
      damaged.add(name);
  const first = new Set(damaged);
  for (const [name, { dependencies }] of chains)
    if (dependencies.some((base) => first.has(base))) damaged.add(name);
  return [...damaged].toSorted();
}
