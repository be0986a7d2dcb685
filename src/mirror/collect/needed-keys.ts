import { SendenseError } from '../../base/sendense-error.ts';
import { layout } from '../layout.ts';
import type { Mirror } from '../mirror.ts';
import { homeOf } from '../points/home-of.ts';
import { listPointNames, readBaseManifest, readChain, readTable } from '../points/read-point.ts';

export interface Needed {
  has(key: string): boolean;
}

/**
 * Every object that a restore point needs, its own and those of all it stands on.
 * @throws MIRROR_OBJECT_DAMAGED, MIRROR_OBJECT_MISSING: with one point unreadable nobody knows what may go
 */
export async function neededKeys(mirror: Mirror): Promise<Needed> {
  const keys = new Set<string>();
  const seen = new Set<string>();
  const add = async (name: string, isListed: boolean): Promise<void> => {
    if (seen.has(name)) return;
    seen.add(name);
    const manifest = await readBaseManifest(mirror, name);
    const chain = await readChain(mirror, manifest);
    for (const key of [layout.manifest(name), layout.rows(name), layout.chain(name)]) keys.add(key);
    if (!isListed) keys.add(layout.retired(name));
    for (const id of chain.packs) keys.add(layout.pack(id));
    if (mirror.mode === 'plain') await addBlocks(name);
    for (const base of chain.dependencies) await add(base, false);
  };
  const addBlocks = async (name: string): Promise<void> => {
    const manifest = await readBaseManifest(mirror, name);
    const chain = await readChain(mirror, manifest);
    const table = await readTable(mirror, manifest);
    for (let at = 0; at < table.count; at += 1) {
      const row = table.at(at);
      if ('zero' in row && row.zero) continue;
      const home = homeOf({ manifest, chain, table }, row);
      if (home === null)
        throw new SendenseError('MIRROR_OBJECT_DAMAGED', {
          key: layout.rows(name),
          detail: 'a row names no object',
        });
      keys.add(layout.block(home, row.offset - (row.skip ?? 0), row.raw ?? row.size));
    }
  };
  for (const name of await listPointNames(mirror)) await add(name, true);
  return keys;
}
