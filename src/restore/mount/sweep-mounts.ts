import { readdir, realpath, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from '../../base/logger.ts';
import { messageOf } from '../../base/sendense-error.ts';
import { readMountTable } from '../../mountd/privileged/mount-table.ts';
import type { PrivilegedWork } from '../../mountd/privileged-work.ts';
import { readExposed, removeEmpty } from './expose-folder.ts';

export interface SweepDeps {
  readonly logger: Logger;
  readonly runFolder: string;
  readonly work: PrivilegedWork;
}

/** How many of each were removed. */
export interface SweepResult {
  readonly mounts: number;
  readonly devices: number;
  /** Of sessions. */
  readonly folders: number;
}

/**
 * Removes what a killed daemon left: mounts, devices, dead FUSE files and folders. To be called at start, after the
 * old daemon's processes have ended and before anything is mounted.
 */
export async function sweepMounts(deps: SweepDeps): Promise<SweepResult> {
  const swept = await deps.work.sweep();
  const sessionsFolder = await realpath(join(deps.runFolder, 'mounts')).catch(() => null);
  return { ...swept, folders: await removeSessions(deps, sessionsFolder) };
}

async function removeSessions(deps: SweepDeps, sessionsFolder: string | null): Promise<number> {
  if (sessionsFolder === null) return 0;
  const still = (await readMountTable()).map(({ mountPoint }) => mountPoint);
  let removed = 0;
  for (const name of await readdir(sessionsFolder)) {
    const folder = join(sessionsFolder, name);
    if (still.some((mountPoint) => mountPoint.startsWith(`${folder}/`))) {
      deps.logger.warn({ folder }, 'something is still mounted in the folder of an old mount; it stays');
      continue;
    }
    for (const exposed of await readExposed(folder)) {
      await removeEmpty(exposed).catch((error: unknown) => {
        deps.logger.warn({ folder: exposed, error: messageOf(error) }, 'the folder of an old mount stays');
      });
    }
    await rm(folder, { recursive: true, force: true });
    removed += 1;
  }
  return removed;
}
