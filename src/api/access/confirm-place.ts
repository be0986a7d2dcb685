import { realpath } from 'node:fs/promises';
import { basename, dirname, join, sep } from 'node:path';
import { SendenseError } from '../../base/sendense-error.ts';

/**
 * A place on the appliance that somebody below admin names. The daemon may be root: without this, who may restore could
 * overwrite any file of the appliance, or show a guest's files in any of its folders.
 * @param folders where it must lie, symbolic links followed
 * @throws OUTPUT_NOT_ALLOWED
 */
export async function confirmPlace(path: string, folders: readonly string[], who: string): Promise<void> {
  const refused = () => new SendenseError('OUTPUT_NOT_ALLOWED', { path, who });
  // also the URIs of exports elsewhere
  if (!path.startsWith('/')) throw refused();
  const real = await realpath(path).catch(async () => {
    const parent = await realpath(dirname(path)).catch(() => null);
    return parent === null ? null : join(parent, basename(path));
  });
  if (real === null) throw refused();
  for (const folder of folders) {
    const allowed = await realpath(folder).catch(() => null);
    if (allowed !== null && real.startsWith(allowed + sep)) return;
  }
  throw refused();
}
