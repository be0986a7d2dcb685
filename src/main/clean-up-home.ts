import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { emptyDir } from 'fs-extra/esm';
import type { HomePaths } from '../base/home/home-paths.ts';
import type { Logger } from '../base/logger.ts';
import { endOwnedProcesses } from '../base/process/owned-processes.ts';
import { viewsFolder } from '../repository/verify/chain-views.ts';
import { sweepMounts } from '../restore/mount/sweep-mounts.ts';
import { clearAgentExports } from './wiring/wire-agents.ts';
import { clearBootTests } from './wiring/wire-boot-tests.ts';
import { clearLive } from './wiring/wire-live.ts';
import { clearMirrors } from './wiring/wire-mirrors.ts';
import { type Mountd, wireMountd } from './wiring/wire-mountd.ts';
import { clearExports } from './wiring/wire-tools.ts';

interface CleanUp {
  readonly paths: HomePaths;
  readonly logger: Logger;
  readonly ownerId: string;
  readonly mountdFile: string;
}

/** Ends and removes what a killed daemon of this home left running, mounted or served. @returns who did it */
export async function cleanUpHome({ paths, logger, ownerId, mountdFile }: CleanUp): Promise<Mountd> {
  await mkdir(paths.runFolder, { recursive: true, mode: 0o750 });
  await mkdir(paths.mountFolder, { recursive: true, mode: 0o750 });
  const leftovers = await endOwnedProcesses(ownerId);
  const mountd = await wireMountd({ logger, paths, mountdFile });
  const swept = await sweepMounts({ logger, runFolder: paths.runFolder, work: mountd.work });
  await clearExports(paths);
  await emptyDir(viewsFolder(paths.runFolder));
  await emptyDir(join(paths.runFolder, 'restore'));
  await clearLive(paths);
  await clearAgentExports(paths);
  await clearBootTests(paths);
  await clearMirrors(paths);
  if (leftovers > 0 || swept.mounts > 0)
    logger.warn({ processes: leftovers, ...swept }, 'cleaned up after a daemon that was killed');
  return mountd;
}
