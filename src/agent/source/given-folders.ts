import { realpath } from 'node:fs/promises';
import { dirname, sep } from 'node:path';
import { SendenseError } from '../../base/sendense-error.ts';

/**
 * An appliance may ask for any path; the agent gives only what lies in the folders that its own operator allowed.
 * @returns the path without links, to be used from now on
 * @throws PATH_NOT_GIVEN
 */
export async function givenPath(path: string, allow: readonly string[]): Promise<string> {
  const real = await realpath(path).catch(async () => {
    // a file that is missing is told as such, but only inside
    const folder = await realpath(dirname(path)).catch(() => null);
    return folder === null ? null : `${folder}${sep}${path.slice(path.lastIndexOf(sep) + 1)}`;
  });
  const folders = await Promise.all(allow.map((folder) => realpath(folder).catch(() => folder)));
  const isGiven = real !== null && folders.some((folder) => isInside(real, folder));
  if (!isGiven || real === null) throw new SendenseError('PATH_NOT_GIVEN', { path });
  return real;
}

const isInside = (path: string, folder: string): boolean =>
  path === folder || path.startsWith(folder.endsWith(sep) ? folder : folder + sep);
