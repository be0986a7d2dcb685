import * as x509 from '@peculiar/x509';
import {
  algorithm,
  BACKDATE_MS,
  type Credentials,
  importPair,
  newPrivateKey,
  serialNumber,
} from './certificates.ts';

interface ServerCertificateOrder {
  /** For people. */
  readonly commonName: string;
  /** What clients may call the server. */
  readonly names: readonly { readonly type: 'dns' | 'ip'; readonly value: string }[];
  readonly now: Date;
  readonly lifetimeMs: number;
}

/** A self-signed certificate of a TLS server. It can be trusted as it is and sign nothing else. */
export async function makeServerCertificate(order: ServerCertificateOrder): Promise<Credentials> {
  const key = await newPrivateKey();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(),
    name: [{ CN: [order.commonName] }],
    notBefore: new Date(order.now.getTime() - BACKDATE_MS),
    notAfter: new Date(order.now.getTime() + order.lifetimeMs),
    keys: await importPair(key),
    signingAlgorithm: algorithm,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
      new x509.SubjectAlternativeNameExtension([...order.names]),
    ],
  });
  return { certificate: certificate.toString('pem'), key };
}
