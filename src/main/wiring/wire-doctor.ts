import { join } from 'node:path';
import type { HomePaths } from '../../base/home/home-paths.ts';
import type { DoctorDeps } from '../../jobs/doctor/examine.ts';
import type { ToolVersions } from '../../qemu/tool-versions.ts';
import type { wireTools } from './wire-tools.ts';

interface DoctorWiring
  extends Pick<DoctorDeps, 'catalog' | 'clock' | 'config' | 'repositories' | 'vmFolder' | 'hasMountd'> {
  readonly paths: HomePaths;
  readonly programs: Pick<ReturnType<typeof wireTools>, 'areReady' | 'failure' | 'nbdServer' | 'daemon'>;
  readonly versions: ToolVersions;
  readonly certificateUntil: DoctorDeps['certificateUntil'];
}

/** What `doctor` looks at. */
export function wireDoctor({ paths, programs, versions, ...rest }: DoctorWiring): DoctorDeps {
  return {
    ...rest,
    secretPaths: [
      ...['api', 'api/own.key', 'agents', 'mirrors'].map((name) => join(paths.stateFolder, name)),
      paths.catalogFile,
    ],
    tools: () => ({
      versions,
      areStarted: programs.areReady() || programs.failure() !== null,
      nbdServerPid: programs.nbdServer.pid,
      storageDaemonPid: programs.daemon.pid,
      storageDaemonLog: join(paths.runFolder, 'qsd.log'),
    }),
  };
}

/** Where nothing may be restored to: what the appliance itself lives in. */
export const foldersOf = (paths: HomePaths): string[] => [
  ...[paths.home, paths.runFolder, paths.mountFolder, paths.defaultRepositoryFolder],
  ...[paths.configFile, paths.catalogFile].map((path) => join(path, '..')),
];
