import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { RequestListener } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { createSecureContext } from 'node:tls';
import type { Credentials } from '../../agent/identity/certificates.ts';
import { messageOf, SendenseError } from '../../base/sendense-error.ts';

/** Who has not finished TLS, or the head of a request, by then never will. */
const HANDSHAKE_TIMEOUT_MS = 10_000;
const HEADERS_TIMEOUT_MS = 20_000;
/** Connections at once, those of strangers included. */
const MAX_CONNECTIONS = 512;

/** The API over TCP. */
export interface TlsListener {
  readonly server: Server;
  readonly address: string;
  /** SHA-256 of the certificate, as `AB:CD:…`. */
  readonly fingerprint: string;
  readonly certificateUntil: string;
}

/** @throws CONFIG_INVALID when a file cannot be read, or the key is not that of the certificate */
export async function readCredentials(certificateFile: string, keyFile: string): Promise<Credentials> {
  const read = (setting: string, file: string) =>
    readFile(file, 'utf8').catch((error: unknown) => {
      throw new SendenseError('CONFIG_INVALID', { detail: `${setting}: ${messageOf(error)}` });
    });
  const certificate = await read('api.tls_certificate', certificateFile);
  const key = await read('api.tls_key', keyFile);
  try {
    createSecureContext({ cert: certificate, key });
  } catch (error) {
    const detail = `api.tls_certificate and api.tls_key cannot be used: ${messageOf(error)}`;
    throw new SendenseError('CONFIG_INVALID', { detail });
  }
  return { certificate, key };
}

/** Serves over TLS 1.2 or newer. @throws CONFIG_INVALID when the port is taken */
export async function listenTls(
  listen: string,
  { certificate, key }: Credentials,
  app: RequestListener,
): Promise<TlsListener> {
  const invalid = (detail: string) => new SendenseError('CONFIG_INVALID', { detail });
  const cut = listen.lastIndexOf(':');
  const host = listen.slice(0, cut).replace(/^\[|\]$/g, '');
  const parsed = new X509Certificate(certificate);
  const server = createServer(
    { cert: certificate, key, minVersion: 'TLSv1.2', handshakeTimeout: HANDSHAKE_TIMEOUT_MS },
    app,
  );
  server.maxConnections = MAX_CONNECTIONS;
  server.headersTimeout = HEADERS_TIMEOUT_MS;
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(invalid(`api.listen=${listen}: ${messageOf(error)}`)));
    server.listen(Number(listen.slice(cut + 1)), host, resolve);
  });
  // a stranger's broken handshake is nobody's failure
  server.on('tlsClientError', () => undefined);
  const { port } = server.address() as AddressInfo;
  return {
    server,
    address: `${listen.slice(0, cut)}:${port}`,
    fingerprint: parsed.fingerprint256,
    certificateUntil: new Date(parsed.validTo).toISOString(),
  };
}
