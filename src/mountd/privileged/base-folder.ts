import { chmod, chown, constants, mkdir, open, readdir, readlink, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf } from '../../base/sendense-error.ts';
import type { Place } from '../privileged-work.ts';
import { checkedName, pathOf, refuse } from './checked-path.ts';

/** Bits of a mode that let others than the owner write. */
const OTHERS_WRITE = 0o022;

/** The folder in which everything is mounted, held open: whatever its path means meanwhile, this is the one. */
export interface HeldBase extends AsyncDisposable {
  /** Leads to the very folder. */
  readonly path: string;
  /** Where it is, as the mount table says it. */
  readonly realPath: string;
}

/**
 * Opens the base folder and makes it when it is not there. It must belong to who does the work and be writable by nobody
 * else, or the user could put a link to another place into it.
 * @param gid the user's group, which may pass through
 * @throws MOUNTD_REFUSED
 */
export async function holdBase(baseFolder: string, gid: number): Promise<HeldBase> {
  const isNew = (await mkdir(baseFolder, { recursive: true, mode: 0o710 })) !== undefined;
  const flags = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;
  const handle = await open(baseFolder, flags).catch((error: unknown) => {
    throw refuse(`${baseFolder} is no folder of its own (${errnoOf(error) ?? 'unknown'})`, error);
  });
  const path = pathOf(handle);
  try {
    const stats = await handle.stat();
    if (stats.uid !== process.getuid?.() || (stats.mode & OTHERS_WRITE) !== 0)
      throw refuse(`${baseFolder} must belong to root, and nobody else may write to it`);
    if (isNew) await share(path, gid);
    const realPath = await readlink(path);
    return { path, realPath, [Symbol.asyncDispose]: () => handle.close() };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/**
 * Makes the folder of a place. The guest's permissions mean nothing here: nobody but the user may look in.
 * @throws MOUNTD_REFUSED when something is there already
 */
export async function makePlaceIn(base: HeldBase, place: Place, gid: number): Promise<string> {
  const session = join(base.path, checkedName(place.session));
  await mkdir(session, { mode: 0o710 }).catch(ignoreExisting);
  await share(session, gid);
  const path = join(session, checkedName(place.key));
  await mkdir(path, { mode: 0o700 }).catch(ignoreExisting);
  if ((await readdir(path)).length > 0) throw refuse(`at ${place.session}/${place.key} is something already`);
  return path;
}

/** Removes the folders of a place when they are empty. */
export async function removePlaceIn(base: HeldBase, { session, key }: Place): Promise<void> {
  await removeEmpty(join(base.path, session, key));
  await removeEmpty(join(base.path, session));
}

/** The user's group may pass through, nobody may list. */
async function share(folder: string, gid: number): Promise<void> {
  await chown(folder, process.getuid?.() ?? 0, gid);
  await chmod(folder, 0o710);
}

function ignoreExisting(error: unknown): void {
  if (errnoOf(error) !== 'EEXIST') throw error;
}

async function removeEmpty(folder: string): Promise<void> {
  await rmdir(folder).catch((error: unknown) => {
    if (!['ENOENT', 'ENOTEMPTY', 'EEXIST', 'EBUSY'].includes(errnoOf(error) ?? '')) throw error;
  });
}
