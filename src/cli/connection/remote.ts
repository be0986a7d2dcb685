import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { connect, type TLSSocket } from 'node:tls';
import { messageOf, SendenseError } from '../../base/sendense-error.ts';

/** An appliance that is reached over TCP. */
export interface Remote {
  readonly url: URL;
  readonly token: string;
  /** SHA-256 of its certificate, hex in capitals without colons; null: a CA vouches for it. */
  readonly fingerprint: string | null;
  /** PEM; null: those that the system trusts. */
  readonly ca: string | null;
}

interface RemoteOptions {
  readonly url?: string;
  readonly tokenFile?: string;
  readonly fingerprint?: string;
  readonly ca?: string;
}

const CONNECT_TIMEOUT_MS = 15_000;
const invalid = (detail: string) => new SendenseError('REQUEST_INVALID', { detail });

function fileOf(option: string, path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw invalid(`${option}: ${messageOf(error)}`);
  }
}

/** @returns null without --url: the daemon is on this machine. @throws REQUEST_INVALID */
export function remoteOf(
  options: RemoteOptions,
  env: Readonly<Record<string, string | undefined>>,
): Remote | null {
  const url = options.url ?? env['SENDENSE_URL'];
  if (url === undefined || url === '') return null;
  const parsed = URL.canParse(url) ? new URL(url) : null;
  if (parsed?.protocol !== 'https:')
    throw invalid(`--url is ${JSON.stringify(url)}; write it as https://HOST:8443`);
  const tokenFile = options.tokenFile ?? env['SENDENSE_TOKEN_FILE'];
  if (tokenFile === undefined) throw invalid('--url needs --token-file FILE with a token');
  const fingerprint = options.fingerprint ?? env['SENDENSE_FINGERPRINT'] ?? null;
  const digits = fingerprint?.replaceAll(':', '').toUpperCase() ?? null;
  if (digits !== null && !/^[0-9A-F]{64}$/.test(digits))
    throw invalid('--fingerprint must be a SHA-256: 64 hex digits, with colons or without');
  const ca = options.ca ?? env['SENDENSE_CA'];
  return {
    url: parsed,
    token: fileOf('--token-file', tokenFile).trim(),
    fingerprint: digits,
    ca: ca === undefined ? null : fileOf('--ca', ca),
  };
}

/**
 * Connects, and looks whom it got before anything is said.
 * @throws CERTIFICATE_MISMATCH, and what connect(2) fails with
 */
export function connectTo({ url, fingerprint, ca }: Remote): Promise<TLSSocket> {
  const host = url.hostname.replace(/^\[|\]$/g, '');
  return new Promise((resolve, reject) => {
    const socket = connect({
      host,
      port: Number(url.port === '' ? 443 : url.port),
      minVersion: 'TLSv1.2',
      ...(isIP(host) === 0 ? { servername: host } : {}),
      ...(ca === null ? {} : { ca }),
      // a pinned certificate needs nobody else to vouch for it
      rejectUnauthorized: fingerprint === null,
    });
    const fail = (error: unknown) => {
      socket.destroy();
      reject(error);
    };
    socket.setTimeout(CONNECT_TIMEOUT_MS, () => fail(new Error('no answer in time')));
    socket.once('error', (error) => {
      const isTls = 'code' in error && /CERT|SELF_SIGNED|ALTNAME|ISSUER/.test(String(error.code));
      fail(isTls ? mismatch(url, `${error.message}; --fingerprint or --ca says which one is right`) : error);
    });
    socket.once('secureConnect', () => {
      const shown = socket.getPeerX509Certificate()?.fingerprint256 ?? 'none';
      if (fingerprint !== null && shown.replaceAll(':', '') !== fingerprint)
        return fail(mismatch(url, `its SHA-256 is ${shown}`));
      socket.setTimeout(0);
      resolve(socket);
    });
  });
}

const mismatch = (url: URL, detail: string) =>
  new SendenseError('CERTIFICATE_MISMATCH', { url: url.origin, detail });
