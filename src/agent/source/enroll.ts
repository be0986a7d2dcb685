import { rm } from 'node:fs/promises';
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ServiceError } from '@grpc/grpc-js';
import { z } from 'zod';
import { SendenseError } from '../../base/sendense-error.ts';
import { keyFingerprint, makeRequest, publicKeyOf } from '../identity/certificates.ts';
import { readCode } from '../identity/pairing-code.ts';
import { readIfThere, writeSecretFile } from '../identity/secret-file.ts';
import { EnrolmentClient } from '../protocol/load-proto.ts';
import { errorOf } from '../protocol/status.ts';
import { type AgentHome, ensureKeys, readSettings, writeSettings } from './agent-home.ts';
import { findAuthority, readAddress, type Target, targetOf } from './find-appliance.ts';

const CALL_TIMEOUT_MS = 15_000;
const ASK_AGAIN_MS = 2_000;

const reply = z.object({
  status: z.enum(['pending', 'approved', 'rejected']),
  agentName: z.string(),
  enrolmentId: z.string(),
  resultToken: z.string(),
  certificate: z.string(),
});
type Reply = z.infer<typeof reply>;

export interface EnrollOrder {
  readonly home: AgentHome;
  /** `host[:port]` */
  readonly appliance: string;
  readonly code: string;
  /** Null: as the invitation says, or as this host is called. */
  readonly name: string | null;
  readonly allow: readonly string[];
  readonly version: string;
}

/**
 * Introduces this host to an appliance. The appliance is proven by the pin in the code before anything is said to it.
 * @returns the digest of the agent's key, for people to compare on both sides
 * @throws AGENT_ENROLLED, PAIRING_…, APPLIANCE_…
 */
export async function enroll(order: EnrollOrder): Promise<string> {
  const { home } = order;
  const known = await readSettings(home);
  if (known !== null)
    throw new SendenseError('AGENT_ENROLLED', { agent: known.agentName, path: home.folder });
  const { pin, secret } = readCode(order.code);
  const address = readAddress(order.appliance);
  const authority = await findAuthority(address, pin);
  const { key, sshPublicKey } = await ensureKeys(home);
  const answer = await ask(targetOf(address, authority, null), 'Enrol', {
    ...{ secret, certificateRequest: await makeRequest(key), sshPublicKey },
    name: order.name ?? hostname().replace(/\..*/, ''),
    ...{ hostName: hostname(), version: order.version },
  });
  await writeSecretFile(home.authorityFile, authority);
  await writeSettings(home, {
    ...{ format: 1, appliance: order.appliance, agentName: answer.agentName, allow: [...order.allow] },
    waiting: { enrolmentId: answer.enrolmentId, resultToken: answer.resultToken },
  });
  if (answer.status === 'approved') await take(home, answer);
  return keyFingerprint(publicKeyOf(key));
}

/** Waits until an operator has decided; at once when he has. @throws AGENT_NOT_ENROLLED, PAIRING_REFUSED, CANCELLED */
export async function awaitApproval(home: AgentHome, signal: AbortSignal): Promise<void> {
  for (;;) {
    const known = await readSettings(home);
    const authority = await readIfThere(home.authorityFile);
    if (known === null || authority === null)
      throw new SendenseError('AGENT_NOT_ENROLLED', { path: home.folder });
    if (known.waiting === null) return;
    const target = targetOf(readAddress(known.appliance), authority, null);
    const answer = await ask(target, 'Result', known.waiting).catch((error: unknown) => {
      // the appliance may be restarted meanwhile
      if (error instanceof SendenseError && error.code === 'APPLIANCE_UNREACHABLE') return null;
      throw error;
    });
    if (answer?.status === 'rejected') {
      // the next code begins anew
      await rm(home.settingsFile, { force: true });
      throw new SendenseError('PAIRING_REFUSED', { detail: 'an operator rejected this agent' });
    }
    if (answer?.status === 'approved') return await take(home, answer);
    await sleep(ASK_AGAIN_MS, undefined, { signal }).catch(() => {
      throw new SendenseError('CANCELLED');
    });
  }
}

/** The certificate comes first: without it, asking again is still possible. */
async function take(home: AgentHome, answer: Reply): Promise<void> {
  await writeSecretFile(home.certificateFile, answer.certificate);
  const known = await readSettings(home);
  if (known !== null) await writeSettings(home, { ...known, agentName: answer.agentName, waiting: null });
}

function ask(target: Target, method: 'Enrol' | 'Result', request: object): Promise<Reply> {
  const client = new EnrolmentClient(target.address, target.credentials, target.options);
  return new Promise<Reply>((resolve, reject) => {
    client[method]?.(
      request,
      { deadline: Date.now() + CALL_TIMEOUT_MS },
      (error: ServiceError | null, value: unknown) => {
        if (error) reject(errorOf(error, target.address));
        else {
          const parsed = reply.safeParse(value);
          if (parsed.success) resolve(parsed.data);
          else
            reject(
              new SendenseError('APPLIANCE_UNREACHABLE', {
                address: target.address,
                detail: 'what it says is no answer',
              }),
            );
        }
      },
    );
  }).finally(() => client.close());
}
