import { hostname, networkInterfaces } from 'node:os';
import type { Credentials } from '../../agent/identity/certificates.ts';
import { readIfThere, writeSecretFile } from '../../agent/identity/secret-file.ts';
import { makeServerCertificate } from '../../agent/identity/server-certificate.ts';

/** Clients pin it: another one means work at each of them. */
const LIFETIME_MS = 5 * 365 * 24 * 3600 * 1000;

/** Names and addresses by which clients may know this machine. */
function names(): { readonly type: 'dns' | 'ip'; readonly value: string }[] {
  const addresses = Object.values(networkInterfaces()).flatMap((found) => found ?? []);
  return [
    { type: 'dns', value: 'localhost' },
    // what is no name of DNS could not be asked for anyway
    ...(/^[A-Za-z0-9][A-Za-z0-9.-]{0,200}$/.test(hostname())
      ? [{ type: 'dns' as const, value: hostname() }]
      : []),
    ...[...new Set(addresses.map(({ address }) => address.split('%')[0] ?? address))].map((value) => ({
      type: 'ip' as const,
      value,
    })),
  ];
}

/** The certificate that the appliance made for itself at the first start with `api.listen`. */
export async function ownCertificate(
  keyFile: string,
  certificateFile: string,
  now: Date,
): Promise<Credentials> {
  const key = await readIfThere(keyFile);
  const certificate = await readIfThere(certificateFile);
  if (key !== null && certificate !== null) return { key, certificate };
  const made = await makeServerCertificate({
    commonName: hostname(),
    names: names(),
    now,
    lifetimeMs: LIFETIME_MS,
  });
  await writeSecretFile(keyFile, made.key);
  await writeSecretFile(certificateFile, made.certificate);
  return made;
}
