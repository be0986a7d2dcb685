import { hasCode } from '../../base/sendense-error.ts';
import type { MirrorIndex, NewBlock } from '../../catalog/mirrors/mirror-index.ts';
import type { Mirror } from '../mirror.ts';
import { listPointNames, readChain, readManifest, readTable } from './read-point.ts';

/** Makes the index anew from all points of the bucket. What is damaged is left out: it is then uploaded again. */
export async function rebuildIndex(
  mirror: Mirror,
  index: MirrorIndex,
  damaged: ReadonlySet<string>,
): Promise<void> {
  for (const name of await listPointNames(mirror)) {
    if (index.hasPoint(name) || damaged.has(name)) continue;
    try {
      await indexPoint(mirror, index, name);
      index.addPoint(name);
    } catch (error) {
      if (!hasCode(error, 'MIRROR_OBJECT_MISSING', 'MIRROR_OBJECT_DAMAGED')) throw error;
    }
  }
}

async function indexPoint(mirror: Mirror, index: MirrorIndex, name: string): Promise<void> {
  const manifest = await readManifest(mirror, name);
  const chain = await readChain(mirror, manifest);
  if (chain.packs.length === 0) return;
  const table = await readTable(mirror, manifest);
  const blocks = new Map<string, NewBlock[]>();
  for (let at = 0; at < table.count; at += 1) {
    const row = table.at(at);
    if (('zero' in row && row.zero) || !('pack' in row) || row.pack === undefined) continue;
    const packId = chain.packs[row.pack];
    if (packId === undefined) continue;
    const block: NewBlock = {
      id: mirror.keys.blockId(row.b3, row.raw ?? row.size),
      at: row.at,
      len: row.len,
      codec: row.codec,
    };
    const list = blocks.get(packId);
    if (list) list.push(block);
    else blocks.set(packId, [block]);
  }
  for (const [packId, list] of blocks) index.addPack(packId, list);
}
