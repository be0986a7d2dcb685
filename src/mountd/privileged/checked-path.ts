import { constants, type FileHandle, open, readlink, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf, SendenseError } from '../../base/sendense-error.ts';

const namePattern = /^[A-Za-z0-9][A-Za-z0-9._+-]{0,120}$/;
/** FUSE_SUPER_MAGIC, linux/magic.h. */
const FUSE_MAGIC = 0x65735546;

export const refuse = (detail: string, cause?: unknown) =>
  new SendenseError('MOUNTD_REFUSED', { detail }, cause);

/** A name that can only mean something directly below where it is put. @throws MOUNTD_REFUSED */
export function checkedName(name: string): string {
  if (!namePattern.test(name)) throw refuse(`"${name}" is no name`);
  return name;
}

/**
 * Opens a file in a session's image folder, which belongs to the user and may change under our hands: what was opened
 * is checked, not what the name meant a moment ago. The path to use is that of the descriptor.
 * @throws MOUNTD_REFUSED
 */
export async function openImage(imageFolder: string, session: string, file: string): Promise<FileHandle> {
  const path = join(imageFolder, checkedName(session), checkedName(file));
  const handle = await open(path, constants.O_RDWR | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch(
    (error: unknown) => {
      throw refuse(`${path} cannot be opened (${errnoOf(error) ?? 'unknown'})`, error);
    },
  );
  try {
    const stats = await handle.stat();
    const { type } = await statfs(`/proc/self/fd/${handle.fd}`);
    if (!stats.isFile() || type !== FUSE_MAGIC) throw refuse(`${path} is not shown by a storage daemon`);
    if (stats.size === 0) throw refuse(`${path} is empty`);
    if ((await readlink(`/proc/self/fd/${handle.fd}`)) !== path)
      throw refuse(`${path} leads out of its folder`);
    return handle;
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** The path of an open file for a program that we start: it leads to that very file. */
export const pathOf = (handle: FileHandle): string => `/proc/${process.pid}/fd/${handle.fd}`;
