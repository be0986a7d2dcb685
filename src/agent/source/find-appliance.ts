import { X509Certificate } from 'node:crypto';
import { connect, type DetailedPeerCertificate } from 'node:tls';
import { credentials } from '@grpc/grpc-js';
import { errnoOf, messageOf, SendenseError } from '../../base/sendense-error.ts';
import { APPLIANCE_NAME, keyFingerprint } from '../identity/certificates.ts';
import { pinOf } from '../identity/pairing-code.ts';
import { MAX_MESSAGE_BYTES } from '../protocol/load-proto.ts';
import type { AgentCredentials } from './agent-home.ts';

const TIMEOUT_MS = 10_000;
const DEFAULT_PORT = 7443;

export interface Address {
  readonly host: string;
  readonly port: number;
}

/** `host`, `host:port`, `[::1]:port`. @throws REQUEST_INVALID */
export function readAddress(text: string): Address {
  const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::(\d{1,5}))?$/.exec(text);
  const port = Number(match?.[3] ?? DEFAULT_PORT);
  if (!match || port < 1 || port > 65_535)
    throw new SendenseError('REQUEST_INVALID', { detail: `${JSON.stringify(text)} is no HOST[:PORT]` });
  return { host: match[1] ?? match[2] ?? '', port };
}

const textOf = ({ host, port }: Address) => (host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`);

/**
 * Looks for the authority that a pairing code names among the certificates of who answers. Nothing secret is said
 * before: a stranger in between learns nothing.
 * @returns the authority's certificate, PEM
 * @throws APPLIANCE_UNREACHABLE, APPLIANCE_NOT_TRUSTED
 */
export async function findAuthority(address: Address, pin: string): Promise<string> {
  const chain = await certificatesAt(address);
  const authority = chain.find((certificate) => {
    const key = certificate.publicKey.export({ type: 'spki', format: 'der' });
    return pinOf(keyFingerprint(key)) === pin;
  });
  const [shown] = chain;
  // the certificate of the authority is public: only what it signed proves anything, and TLS checks that for each
  // connection from now on
  if (!authority || !shown?.verify(authority.publicKey))
    throw new SendenseError('APPLIANCE_NOT_TRUSTED', { address: textOf(address) });
  return authority.toString();
}

function certificatesAt(address: Address): Promise<X509Certificate[]> {
  return new Promise((resolve, reject) => {
    const unreachable = (detail: string, cause?: unknown) =>
      reject(new SendenseError('APPLIANCE_UNREACHABLE', { address: textOf(address), detail }, cause));
    const socket = connect({
      ...{ host: address.host, port: address.port, rejectUnauthorized: false },
      ...{ ALPNProtocols: ['h2'], minVersion: 'TLSv1.3', timeout: TIMEOUT_MS },
    });
    socket.once('timeout', () => socket.destroy(new Error('it does not answer')));
    socket.once('error', (error) => unreachable(errnoOf(error) ?? messageOf(error), error));
    socket.once('secureConnect', () => {
      const found: X509Certificate[] = [];
      let next: DetailedPeerCertificate | undefined = socket.getPeerCertificate(true);
      // a root names itself as its issuer
      while (next?.raw && found.length < 8) {
        const raw: Buffer = next.raw;
        if (found.some((certificate) => certificate.raw.equals(raw))) break;
        found.push(new X509Certificate(raw));
        next = next.issuerCertificate;
      }
      socket.destroy();
      resolve(found);
    });
  });
}

export interface Target {
  readonly address: string;
  readonly credentials: ReturnType<typeof credentials.createSsl>;
  readonly options: Readonly<Record<string, string | number>>;
}

/** How gRPC reaches an appliance whose authority is known. @param own null: not enrolled yet */
export function targetOf(address: Address, authority: string, own: AgentCredentials | null): Target {
  const channel =
    own === null
      ? credentials.createSsl(Buffer.from(authority))
      : credentials.createSsl(Buffer.from(authority), Buffer.from(own.key), Buffer.from(own.certificate));
  return {
    address: textOf(address),
    credentials: channel,
    options: {
      'grpc.ssl_target_name_override': APPLIANCE_NAME,
      'grpc.default_authority': APPLIANCE_NAME,
      'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
      // a connection of one's own: another one's may have shown an older certificate
      'grpc.use_local_subchannel_pool': 1,
      'grpc.keepalive_time_ms': 15_000,
      'grpc.keepalive_timeout_ms': 10_000,
      // proxies of the environment are meant for the web
      'grpc.enable_http_proxy': 0,
    },
  };
}
