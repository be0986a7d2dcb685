import { stat } from 'node:fs/promises';
import type { DiskFormat } from '../../base/source-reference.ts';
import { filesOf } from '../../qemu/block-graph.ts';
import { sourceGraph } from './source-graph.ts';

/**
 * What a disk is known by: the same files, of the same sizes, none of them written to since; those that a qcow2 stands
 * on are among them. A block device tells no time of its last writing, so it is never known to be the same.
 * @returns null when that cannot be told
 */
export async function imageIdentity(
  { path, format }: { readonly path: string; readonly format: DiskFormat },
  allowBacking: readonly string[],
): Promise<string | null> {
  const parts: string[] = [];
  for (const file of format === 'raw' ? [path] : await filesBelow(path, allowBacking)) {
    const stats = await stat(file, { bigint: true }).catch(() => null);
    if (!stats?.isFile()) return null;
    parts.push([stats.dev, stats.ino, stats.size, stats.mtimeNs, stats.ctimeNs].join(':'));
  }
  return parts.length === 0 ? null : parts.join('/');
}

/** Empty when a header is refused; whoever reads the disk says why. */
async function filesBelow(path: string, allowBacking: readonly string[]): Promise<string[]> {
  const graph = await sourceGraph(path, { allowBacking, forceShare: false }).catch(() => null);
  return graph === null ? [] : filesOf(graph);
}
