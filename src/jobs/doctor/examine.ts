import { accessSync, constants, existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../../base/clock.ts';
import type { Config } from '../../base/config/config-schema.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import { fuseFacts } from '../../qemu/fuse-unavailable.ts';
import { vmAvailability } from '../../restore/vm/vm-image.ts';
import type { Repositories } from '../repository/repositories.ts';
import { accessFacts } from './access-facts.ts';
import { checkAccess } from './check-access.ts';
import { checkHost, type Host } from './check-host.ts';
import { checkMounts } from './check-mounts.ts';
import { checkRepositories } from './check-repositories.ts';
import { checkTools, type ToolState } from './check-tools.ts';
import type { Finding } from './finding.ts';

export interface DoctorDeps {
  readonly catalog: Catalog;
  readonly clock: Clock;
  readonly config: Config;
  readonly repositories: Repositories;
  readonly tools: () => Omit<ToolState, 'needsNbdServer'>;
  readonly hasMountd: boolean;
  readonly vmFolder: string;
  /** What holds secrets. */
  readonly secretPaths: readonly string[];
  /** ISO 8601; null: the API is not reached over TCP. */
  readonly certificateUntil: () => string | null;
}

/** Looks at everything that backups and restores need, as this process sees it. */
export async function examine(deps: DoctorDeps): Promise<Finding[]> {
  const { catalog, clock, config, repositories } = deps;
  const needsNbdServer = config.exports.backend === 'nbd-server';
  const [newestBackup = null] = catalog.backups.list({ limit: 1 });
  const fuse = await fuseFacts();
  const host: Host = { uid: fuse.uid, fuse, now: clock.now(), exists: existsSync, hasProgram };
  return [
    ...checkTools({ ...deps.tools(), needsNbdServer }),
    ...checkHost(host, { mountMode: config.mounts.mode, writesOverFuse: needsNbdServer, newestBackup }),
    ...checkMounts({
      uid: host.uid,
      hasMountd: deps.hasMountd,
      allowsOther: /^\s*user_allow_other\b/m.test(await readFile('/etc/fuse.conf', 'utf8').catch(() => '')),
      vm: await vmAvailability(deps.vmFolder),
      hasProgram,
    }),
    ...checkAccess(
      await accessFacts(deps.secretPaths, {
        ...{ now: host.now, certificateUntil: deps.certificateUntil() },
        isOwnCertificate: config.api.tls_certificate === '',
      }),
    ),
    ...(await checkRepositories(repositories.known(), config.repository.reserve_bytes)),
  ];
}

/** Where the daemon itself would look for it. */
function hasProgram(name: string): boolean {
  return (process.env['PATH'] ?? '').split(':').some((folder) => {
    try {
      accessSync(join(folder, name), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}
