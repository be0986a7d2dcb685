import { readdir } from 'node:fs/promises';
import type { GuestNode } from './guest-node.ts';

interface SortedFolder {
  readonly device: bigint;
  readonly inode: bigint;
  readonly names: readonly string[];
}

/** The last folder listed of each mount: its pages are asked for one after the other, and nothing in it changes. */
const lastListed = new WeakMap<object, SortedFolder>();

/**
 * The names in a folder as latin1 text: one character per byte, so any bytes survive, and the plain order of
 * strings is the order of the bytes. Much quicker and smaller than an array of buffers.
 */
export async function sortedNames(mount: object, folder: GuestNode): Promise<readonly string[]> {
  const { dev, ino } = folder.stat;
  const known = lastListed.get(mount);
  if (known?.device === dev && known.inode === ino) return known.names;
  const names = (await readdir(folder.procPath, { encoding: 'latin1' })).sort();
  lastListed.set(mount, { device: dev, inode: ino, names });
  return names;
}

/** Index of the first name greater than `name` in a sorted list. */
export function firstIndexAfter(names: readonly string[], name: string): number {
  let low = 0;
  let high = names.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((names[middle] ?? '') <= name) low = middle + 1;
    else high = middle;
  }
  return low;
}
