import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Credentials } from '../../agent/identity/certificates.ts';
import type { LabelsOf } from '../../api/access/caller.ts';
import { FailureLimit } from '../../api/access/failure-limit.ts';
import { Gate } from '../../api/access/gate.ts';
import { OpenRequests } from '../../api/access/open-requests.ts';
import { TokenOffice } from '../../api/access/token-office.ts';
import { readCredentials } from '../../api/tls/listen-tls.ts';
import { ownCertificate } from '../../api/tls/own-certificate.ts';
import type { Clock } from '../../base/clock.ts';
import type { Config } from '../../base/config/config-schema.ts';
import type { HomePaths } from '../../base/home/home-paths.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import { peerUsers } from '../../mountd/peer-user.ts';

interface AccessWiring {
  readonly catalog: Catalog;
  readonly clock: Clock;
  readonly config: Config;
  readonly paths: HomePaths;
  readonly labelsOf: LabelsOf;
}

/** Who may use the API. */
export function wireAccess({ catalog, clock, config, labelsOf }: AccessWiring) {
  const { tokens, events } = catalog;
  const open = new OpenRequests();
  const gate = new Gate({
    ...{ tokens, clock, open, labelsOf, limit: new FailureLimit(), usersOf: peerUsers },
    get restoreFolders() {
      return config.api.restore_folders;
    },
    onRefused: (from, tokenId) => {
      const name = tokenId === null ? null : (tokens.byId(tokenId)?.name ?? null);
      events.add({
        ...{ kind: 'access.refused', severity: 'warning', subject: name },
        message: `A wrong token came from ${from}${name === null ? '' : `; it is like that of "${name}"`}.`,
        data: { from },
      });
    },
  });
  return { gate, office: new TokenOffice({ tokens, events, clock, open }) };
}

/**
 * What the API shows over TCP; to be called before anything is started.
 * @returns null when it is not to be reached over TCP
 * @throws CONFIG_INVALID
 */
export async function apiCredentials({
  clock,
  config,
  paths,
}: Pick<AccessWiring, 'clock' | 'config' | 'paths'>): Promise<Credentials | null> {
  const { listen, tls_certificate, tls_key } = config.api;
  if (listen === '') return null;
  const folder = join(paths.stateFolder, 'api');
  await mkdir(folder, { recursive: true, mode: 0o700 });
  return tls_certificate === ''
    ? await ownCertificate(join(folder, 'own.key'), join(folder, 'own.crt'), clock.now())
    : await readCredentials(tls_certificate, tls_key);
}
