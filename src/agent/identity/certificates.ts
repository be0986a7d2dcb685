import 'reflect-metadata';
import { createHash, createPublicKey, randomBytes } from 'node:crypto';
import * as x509 from '@peculiar/x509';

/** Clocks of two machines are never the same: a certificate is good from a little before it was made. */
export const BACKDATE_MS = 24 * 3600 * 1000;

export const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;

/** A key pair and the certificate of its public half, all PEM. */
export interface Credentials {
  readonly certificate: string;
  readonly key: string;
}

export type CertificateUse = 'appliance' | 'agent';

/** The name by which agents know an appliance, whatever its address is. */
export const APPLIANCE_NAME = 'appliance.sendense.internal';

/** @returns a P-256 private key, PKCS #8 PEM */
export async function newPrivateKey(): Promise<string> {
  const pair = await crypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  return x509.PemConverter.encode(await crypto.subtle.exportKey('pkcs8', pair.privateKey), 'PRIVATE KEY');
}

/** As the library names it: with a browser's types beside Node's, the same keys have two. */
type KeyPair = Parameters<typeof x509.Pkcs10CertificateRequestGenerator.create>[0]['keys'];

export async function importPair(keyPem: string): Promise<KeyPair> {
  const pkcs8 = x509.PemConverter.decodeFirst(keyPem);
  const privateKey = await crypto.subtle.importKey('pkcs8', pkcs8, algorithm, true, ['sign']);
  const spki = createPublicKey(keyPem).export({ type: 'spki', format: 'der' });
  const publicKey = await crypto.subtle.importKey('spki', spki, algorithm, true, ['verify']);
  return { privateKey, publicKey } as unknown as KeyPair;
}

/** SubjectPublicKeyInfo of a private key, base64. */
export const publicKeyOf = (keyPem: string): string =>
  createPublicKey(keyPem).export({ type: 'spki', format: 'der' }).toString('base64');

/** SHA-256 of a public key, hex: what an agent or an authority is known by. */
export const keyFingerprint = (publicKey: string | Uint8Array): string =>
  createHash('sha256')
    .update(typeof publicKey === 'string' ? Buffer.from(publicKey, 'base64') : publicKey)
    .digest('hex');

export const serialNumber = () => `00${randomBytes(16).toString('hex')}`;

/** A new authority. @param commonName for people */
export async function makeAuthority(commonName: string, now: Date, lifetimeMs: number): Promise<Credentials> {
  const key = await newPrivateKey();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(),
    name: [{ CN: [commonName] }],
    notBefore: new Date(now.getTime() - BACKDATE_MS),
    notAfter: new Date(now.getTime() + lifetimeMs),
    keys: await importPair(key),
    signingAlgorithm: algorithm,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
    ],
  });
  return { certificate: certificate.toString('pem'), key };
}

interface SigningOrder {
  readonly authority: Credentials;
  /** SubjectPublicKeyInfo, base64. */
  readonly publicKey: string;
  readonly commonName: string;
  readonly use: CertificateUse;
  readonly now: Date;
  readonly lifetimeMs: number;
}

/** Signs a public key. Nothing that its owner wishes for goes into the certificate. */
export async function signCertificate(order: SigningOrder): Promise<string> {
  const { authority, use, now } = order;
  const issuer = new x509.X509Certificate(authority.certificate);
  const spki = Buffer.from(order.publicKey, 'base64');
  const publicKey = (await crypto.subtle.importKey('spki', spki, algorithm, true, [
    'verify',
  ])) as unknown as KeyPair['publicKey'];
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: serialNumber(),
    subject: [{ CN: [order.commonName] }],
    issuer: issuer.subjectName,
    notBefore: new Date(now.getTime() - BACKDATE_MS),
    notAfter: new Date(now.getTime() + order.lifetimeMs),
    publicKey,
    signingKey: (await importPair(authority.key)).privateKey,
    signingAlgorithm: algorithm,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([
        use === 'appliance' ? x509.ExtendedKeyUsage.serverAuth : x509.ExtendedKeyUsage.clientAuth,
      ]),
      ...(use === 'appliance'
        ? [new x509.SubjectAlternativeNameExtension([{ type: 'dns', value: APPLIANCE_NAME }])]
        : []),
    ],
  });
  return certificate.toString('pem');
}

/** @returns the P-256 public key that a certificate request proves to own, base64; null for any other */
export async function keyOfRequest(pem: string): Promise<string | null> {
  try {
    const request = new x509.Pkcs10CertificateRequest(pem);
    const { namedCurve } = request.publicKey.algorithm as { namedCurve?: string };
    if (namedCurve !== algorithm.namedCurve || !(await request.verify())) return null;
    return Buffer.from(request.publicKey.rawData).toString('base64');
  } catch {
    return null;
  }
}

/** A request that proves the key without saying who it is for. */
export async function makeRequest(keyPem: string): Promise<string> {
  const request = await x509.Pkcs10CertificateRequestGenerator.create({
    name: [{ CN: ['sendense-agent'] }],
    keys: await importPair(keyPem),
    signingAlgorithm: algorithm,
  });
  return request.toString('pem');
}
