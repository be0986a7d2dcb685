import { lstat, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf, SendenseError } from '../../base/sendense-error.ts';

const kindOf = async (path: string): Promise<'absent' | 'folder' | 'other'> => {
  const stat = await lstat(path).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return null;
    throw error;
  });
  return stat === null ? 'absent' : stat.isDirectory() ? 'folder' : 'other';
};

/**
 * Moves what was extracted to where it shall be; both on one file system. A new or empty folder appears whole or not at
 * all. With `force` a folder is merged into the one that is there, name by name: files and links are replaced, links in
 * the target are never followed, nothing else is removed, and what is moved stays when a later move fails.
 * @throws OUTPUT_EXISTS
 */
export async function putInPlace(source: string, target: string, force: boolean): Promise<void> {
  const there = await kindOf(target);
  const isFolder = (await kindOf(source)) === 'folder';
  if (there === 'absent') return await rename(source, target);
  if (there === 'folder') {
    if (!isFolder) throw new SendenseError('OUTPUT_EXISTS', { path: target });
    const isEmpty = (await readdir(target)).length === 0;
    // rename(2) replaces an empty folder
    if (isEmpty) return await rename(source, target);
    if (!force) throw new SendenseError('OUTPUT_EXISTS', { path: target });
    const names = await readdir(source, { encoding: 'latin1' });
    for (const name of names) await putInPlaceBytes(source, target, Buffer.from(name, 'latin1'));
    return;
  }
  if (!force) throw new SendenseError('OUTPUT_EXISTS', { path: target });
  // rename(2) replaces a link itself, but no file by a folder
  if (isFolder) await rm(target);
  await rename(source, target);
}

/** The same one level down, where names may be any bytes. */
async function putInPlaceBytes(
  source: string | Buffer,
  target: string | Buffer,
  name: Buffer,
): Promise<void> {
  const below = (folder: string | Buffer) => Buffer.concat([Buffer.from(folder), Buffer.from('/'), name]);
  const [from, to] = [below(source), below(target)];
  const [fromStat, toStat] = [await lstat(from), await lstat(to).catch(() => null)];
  if (toStat?.isDirectory()) {
    if (!fromStat.isDirectory()) throw new SendenseError('OUTPUT_EXISTS', { path: to.toString() });
    for (const each of await readdir(from, { encoding: 'latin1' }))
      await putInPlaceBytes(from, to, Buffer.from(each, 'latin1'));
    return;
  }
  if (toStat !== null && fromStat.isDirectory()) await rm(to);
  await rename(from, to);
}

/** The hidden folder next to the target in which everything is made first. */
export const workFolderFor = (target: string): string =>
  join(target, '..', `.sendense-${process.pid}-${Date.now().toString(36)}`);
