import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { emptyDir } from 'fs-extra/esm';
import pLimit from 'p-limit';
import type { Clock } from '../../base/clock.ts';
import type { HomePaths } from '../../base/home/home-paths.ts';
import type { Logger } from '../../base/logger.ts';
import { messageOf } from '../../base/sendense-error.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import type { JobEngine } from '../../jobs/job-engine.ts';
import type { MirrorDeps } from '../../jobs/mirror/mirror-deps.ts';
import { startSync } from '../../jobs/mirror/start-sync.ts';
import type { Repositories } from '../../jobs/repository/repositories.ts';
import type { ResourceLocks } from '../../jobs/resource-locks.ts';

interface MirrorWiring {
  readonly catalog: Catalog;
  readonly clock: Clock;
  readonly engine: JobEngine;
  readonly locks: ResourceLocks;
  readonly logger: Logger;
  readonly paths: HomePaths;
  readonly repositories: Repositories;
  readonly mirrorFile: string;
}

/** S3 mirrors, and what brings new restore points there by itself. */
export function wireMirrors({ paths, ...deps }: MirrorWiring): {
  readonly mirrors: MirrorDeps;
  /** To be told of each new restore point. */
  readonly backupMade: (backupId: string, vmName: string) => void;
} {
  const lanes = new Map<string, ReturnType<typeof pLimit>>();
  const laneOf = (mirror: string) => {
    const lane = lanes.get(mirror) ?? pLimit(1);
    lanes.set(mirror, lane);
    return lane;
  };
  const mirrors: MirrorDeps = {
    ...deps,
    stateFolder: join(paths.stateFolder, 'mirrors'),
    runFolder: socketsOf(paths),
    applianceId: applianceIdOf(paths),
    laneOf,
  };
  const backupMade = (backupId: string, vmName: string) => {
    for (const { name, epoch, settings } of deps.catalog.mirrors.all()) {
      const isMeant = settings.vms.length === 0 || settings.vms.includes(vmName);
      if (!settings.isAutomatic || epoch === null || !isMeant) continue;
      // one mirror that fails keeps no other from being served
      try {
        startSync(mirrors, name, { backup: backupId, vmName: null });
      } catch (error) {
        deps.logger.error({ mirror: name, backup: backupId, error: messageOf(error) }, 'not uploaded');
      }
    }
  };
  return { mirrors, backupMade };
}

const socketsOf = (paths: HomePaths) => join(paths.runFolder, 's3');

/** Sockets of programs that a killed daemon left; those have ended before. */
export const clearMirrors = (paths: HomePaths): Promise<void> => emptyDir(socketsOf(paths));

/** Made once for a home. It is what a mirror knows its owner by. */
function applianceIdOf({ stateFolder }: HomePaths): string {
  const file = join(stateFolder, 'appliance-id');
  if (existsSync(file)) return readFileSync(file, 'utf8').trim();
  const id = randomUUID();
  mkdirSync(stateFolder, { recursive: true });
  writeFileSync(file, `${id}\n`, { mode: 0o640, flush: true });
  return id;
}
