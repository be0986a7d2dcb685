import { X509Certificate } from 'node:crypto';
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from '../../base/logger.ts';
import { hasCode, messageOf, SendenseError, toSendenseError } from '../../base/sendense-error.ts';
import { BACKDATE_MS, makeRequest } from '../identity/certificates.ts';
import { writeSecretFile } from '../identity/secret-file.ts';
import { NEWEST_PROTOCOL, OLDEST_PROTOCOL } from '../protocol/versions.ts';
import { type AgentCredentials, type AgentHome, readCredentials } from './agent-home.ts';
import { type Address, targetOf } from './find-appliance.ts';
import { Session } from './session.ts';
import type { Snapshots } from './snapshots.ts';
import type { Transfers } from './transfers.ts';

const FIRST_DELAY_MS = 500;
const LAST_DELAY_MS = 15_000;
/** An agent that another release is needed for waits for it. */
const VERSION_DELAY_MS = 30_000;
const RENEW_CHECK_MS = 60_000;

interface ServeDeps {
  readonly home: AgentHome;
  readonly address: Address;
  readonly version: string;
  readonly logger: Logger;
  readonly snapshots: Snapshots;
  readonly transfers: Transfers;
  readonly onCall: (method: string, body: string) => Promise<object>;
  /** The connection of the moment, for what else is asked over it. */
  readonly onSession: (session: Session) => void;
  readonly signal: AbortSignal;
}

/**
 * Stays connected until it is told to end. What was begun goes on without a connection for as long as the appliance's
 * patience lasts; then it is ended, and no snapshot stays.
 * @throws AGENT_REFUSED when the appliance does not know this agent (any more), CANCELLED
 */
export async function serveAppliance(deps: ServeDeps): Promise<never> {
  const { logger, transfers, snapshots, signal } = deps;
  let delayMs = FIRST_DELAY_MS;
  let patienceMs = 0;
  let giveUp: NodeJS.Timeout | undefined;
  for (;;) {
    const credentials = await readCredentials(deps.home);
    const session = sessionOf(deps, credentials, async (welcome, send) => {
      clearTimeout(giveUp);
      giveUp = undefined;
      delayMs = FIRST_DELAY_MS;
      patienceMs = welcome.patienceS * 1000;
      logger.info({ appliance: welcome.version, agent: welcome.agentName }, 'connected');
      await transfers.attach(send, welcome.transfers);
      for (const id of snapshots.ids) if (!welcome.snapshots.includes(id)) await snapshots.dispose(id);
    });
    deps.onSession(session);
    const renewing = keepRenewed(deps, session, credentials);
    try {
      await session.run();
    } catch (error) {
      const failure = toSendenseError(error);
      if (signal.aborted) throw new SendenseError('CANCELLED', {}, error);
      if (hasCode(failure, 'AGENT_REFUSED', 'AGENT_STATE')) throw failure;
      logger.warn({ error: failure.message, hint: failure.hint }, 'not connected');
      if (hasCode(failure, 'AGENT_VERSION')) delayMs = VERSION_DELAY_MS;
    } finally {
      renewing.abort();
      transfers.detach();
    }
    giveUp ??= setTimeout(() => {
      logger.error('the appliance stayed away; what was begun is ended');
      void transfers.attach(() => undefined, []).then(() => snapshots[Symbol.asyncDispose]());
    }, patienceMs);
    giveUp.unref();
    // a little by chance: after a restart of the appliance all its agents come at once
    await sleep(delayMs * (0.5 + Math.random() / 2), undefined, { signal }).catch(() => undefined);
    if (signal.aborted) throw new SendenseError('CANCELLED');
    delayMs = Math.min(delayMs * 2, LAST_DELAY_MS);
  }
}

const sessionOf = (
  deps: ServeDeps,
  credentials: AgentCredentials,
  onWelcome: ConstructorParameters<typeof Session>[0]['onWelcome'],
): Session =>
  new Session({
    target: targetOf(deps.address, credentials.authority, credentials),
    hello: {
      ...{ oldestProtocol: OLDEST_PROTOCOL, newestProtocol: NEWEST_PROTOCOL, version: deps.version },
      ...{ hostName: hostname(), time: new Date().toISOString(), transfers: deps.transfers.ids },
    },
    onWelcome,
    onRowsTaken: (transferId, until) => deps.transfers.taken(transferId, until),
    onCall: deps.onCall,
    signal: deps.signal,
  });

/** When two thirds of a certificate's time are over. Pure. */
export function renewalTime(certificate: string): Date {
  const { validFrom, validTo } = new X509Certificate(certificate);
  const start = Date.parse(validFrom) + BACKDATE_MS;
  return new Date(start + ((Date.parse(validTo) - start) * 2) / 3);
}

/** Gets a new certificate over the connection when it is time; the next connection shows it. */
function keepRenewed(deps: ServeDeps, session: Session, credentials: AgentCredentials): AbortController {
  const stop = new AbortController();
  let { certificate } = credentials;
  const keep = async () => {
    while (!stop.signal.aborted) {
      const leftMs = renewalTime(certificate).getTime() - Date.now();
      await sleep(Math.min(Math.max(leftMs, 1_000), RENEW_CHECK_MS), undefined, {
        signal: stop.signal,
        ref: false,
      });
      if (renewalTime(certificate).getTime() > Date.now()) continue;
      try {
        certificate = await session.renew(await makeRequest(credentials.key));
        await writeSecretFile(deps.home.certificateFile, certificate);
        deps.logger.info({ until: new X509Certificate(certificate).validTo }, 'the certificate is renewed');
      } catch (error) {
        deps.logger.warn({ error: messageOf(error) }, 'the certificate could not be renewed; trying again');
      }
    }
  };
  keep().catch(() => undefined); // it ends with the connection
  return stop;
}
