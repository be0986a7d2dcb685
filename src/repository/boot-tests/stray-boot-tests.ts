import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { layout } from '../layout.ts';
import { bootTestPattern } from './boot-tests.ts';

/** Something in `boot-tests` that belongs to no restore point. */
export interface Stray {
  readonly path: string;
  /** False: it is not ours, nobody may remove it. */
  readonly isOurs: boolean;
  readonly bytes: number;
}

const BACKUP_ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

/**
 * What a crash left of tests that were being stored, and tests of restore points that are gone.
 * @param standing ids of restore points, also of those that cannot be read
 */
export async function strayBootTests(
  root: string,
  vmUuid: string,
  standing: ReadonlySet<string>,
): Promise<Stray[]> {
  const all = layout.bootTestsFolder(root, vmUuid);
  const strays: Stray[] = [];
  for (const entry of await readdir(all, { withFileTypes: true })) {
    const folder = join(all, entry.name);
    const isOurs = entry.isDirectory() && BACKUP_ID.test(entry.name);
    if (!isOurs || !standing.has(entry.name)) {
      strays.push({ path: folder, isOurs, bytes: await sizeOf(folder) });
      continue;
    }
    for (const test of await readdir(folder, { withFileTypes: true })) {
      const path = join(folder, test.name);
      if (test.isDirectory() && bootTestPattern.test(test.name)) continue;
      const isUnfinished = test.isDirectory() && bootTestPattern.test(test.name.replace(/\.partial$/, ''));
      strays.push({ path, isOurs: isUnfinished, bytes: await sizeOf(path) });
    }
  }
  return strays.sort((a, b) => (a.path < b.path ? -1 : 1));
}

/** Bytes of the files in it; of what is no folder its own. */
async function sizeOf(path: string): Promise<number> {
  const stats = await lstat(path);
  if (!stats.isDirectory()) return stats.size;
  const sizes = await Promise.all((await readdir(path)).map((name) => sizeOf(join(path, name))));
  return sizes.reduce((sum, size) => sum + size, 0);
}
