import { join } from 'node:path';
import { emptyDir } from 'fs-extra/esm';
import type { Config } from '../../base/config/config-schema.ts';
import type { HomePaths } from '../../base/home/home-paths.ts';
import type { Logger } from '../../base/logger.ts';
import { type BootSettings, bootLane } from '../../jobs/boot-tests/start-boot-test.ts';

interface BootWiring {
  readonly config: Config;
  readonly logger: Logger;
  readonly paths: HomePaths;
  readonly vmFolder: string;
  readonly toolVersions: Readonly<Record<string, string>>;
}

const socketsOf = (paths: HomePaths) => join(paths.runFolder, 'boot');
/** On disk, also where the sockets lie in memory: guests may write much. */
const overlaysOf = (paths: HomePaths) => join(paths.stateFolder, 'boot');

/** Sockets and overlays that a killed daemon left; its machines have ended before. */
export async function clearBootTests(paths: HomePaths): Promise<void> {
  await emptyDir(socketsOf(paths));
  await emptyDir(overlaysOf(paths));
}

export const wireBootTests = ({
  config,
  logger,
  paths,
  vmFolder,
  toolVersions,
}: BootWiring): BootSettings => ({
  logger,
  runFolder: socketsOf(paths),
  stateFolder: overlaysOf(paths),
  overlayLimitBytes: config.boot_test.overlay_limit_bytes,
  keep: config.boot_test.keep,
  lane: bootLane(config.boot_test.max),
  vmFolder,
  // the same answer as for mounts
  kvmFile: join(paths.runFolder, 'kvm.json'),
  toolVersions,
});
