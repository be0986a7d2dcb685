import { X509Certificate } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../../base/clock.ts';
import {
  APPLIANCE_NAME,
  type Credentials,
  keyFingerprint,
  makeAuthority,
  newPrivateKey,
  publicKeyOf,
  signCertificate,
} from './certificates.ts';
import { readIfThere, writeSecretFile } from './secret-file.ts';

const YEAR_MS = 365 * 24 * 3600 * 1000;
/** The pin of every agent hangs on it; who wants another one enrols all agents anew. */
const AUTHORITY_LIFETIME_MS = 30 * YEAR_MS;
const APPLIANCE_LIFETIME_MS = 2 * YEAR_MS;

/** The appliance's own certificate authority, made at the first use. */
export interface Authority {
  readonly certificate: string;
  /** SHA-256 of its public key, hex. */
  readonly fingerprint: string;
  /** What the appliance shows to agents. */
  readonly appliance: Credentials;
  /** @param publicKey SubjectPublicKeyInfo, base64 */
  signAgent(agentId: string, publicKey: string, lifetimeMs: number): Promise<{ pem: string; until: Date }>;
}

/** @param folder for keys, readable to the daemon's user only */
export async function openAuthority(folder: string, clock: Clock): Promise<Authority> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const own = await ensure(folder, 'authority', async () =>
    makeAuthority('Sendense appliance', clock.now(), AUTHORITY_LIFETIME_MS),
  );
  const sign = async (): Promise<Credentials> => {
    const key = await newPrivateKey();
    const certificate = await signCertificate({
      ...{ authority: own, publicKey: publicKeyOf(key), commonName: APPLIANCE_NAME, use: 'appliance' },
      ...{ now: clock.now(), lifetimeMs: APPLIANCE_LIFETIME_MS },
    });
    return { certificate, key };
  };
  const soon = clock.now().getTime() + APPLIANCE_LIFETIME_MS / 2;
  const appliance = await ensure(folder, 'appliance', sign, (certificate) => {
    const parsed = new X509Certificate(certificate);
    return parsed.verify(new X509Certificate(own.certificate).publicKey) && Date.parse(parsed.validTo) > soon;
  });
  return {
    certificate: own.certificate,
    fingerprint: keyFingerprint(publicKeyOf(own.key)),
    appliance,
    signAgent: async (agentId, publicKey, lifetimeMs) => {
      const now = clock.now();
      const pem = await signCertificate({
        ...{ authority: own, publicKey, commonName: agentId, use: 'agent', now, lifetimeMs },
      });
      return { pem, until: new Date(now.getTime() + lifetimeMs) };
    },
  };
}

async function ensure(
  folder: string,
  name: string,
  make: () => Promise<Credentials>,
  isGood: (certificate: string) => boolean = () => true,
): Promise<Credentials> {
  const keyFile = join(folder, `${name}.key`);
  const certificateFile = join(folder, `${name}.crt`);
  const key = await readIfThere(keyFile);
  const certificate = await readIfThere(certificateFile);
  if (key !== null && certificate !== null && isGood(certificate)) return { key, certificate };
  const made = await make();
  await writeSecretFile(keyFile, made.key);
  await writeSecretFile(certificateFile, made.certificate);
  return made;
}
