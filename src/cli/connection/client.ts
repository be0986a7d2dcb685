import { type IncomingMessage, request } from 'node:http';
import { errnoOf, isErrorCode, messageOf, SendenseError } from '../../base/sendense-error.ts';
import { connectTo, type Remote } from './remote.ts';

/** The daemon over its unix socket, or over TLS. */
export interface Client {
  call<T>(method: string, path: string, body?: unknown): Promise<T>;
  /** The body as it comes; the caller must read or destroy it. */
  open(method: string, path: string, body?: unknown): Promise<IncomingMessage>;
}

export const query = (values: Readonly<Record<string, string | number | boolean | undefined>>): string => {
  const pairs = Object.entries(values).filter(([, value]) => value !== undefined && value !== false);
  return pairs.length === 0
    ? ''
    : `?${new URLSearchParams(pairs.map(([key, value]): [string, string] => [key, String(value)]))}`;
};

/** For the audit; the daemon cannot see who opened its socket. */
const userAgent = `sendense-ctl (uid ${process.getuid?.() ?? '?'}, pid ${process.pid})`;

const whyUnreachable: Readonly<Record<string, string>> = {
  ENOENT: 'the socket does not exist',
  ECONNREFUSED: 'the daemon that made this socket is gone',
  EACCES: 'your user may not open the socket; be root or in its group',
};

/** @param place a socket of this machine, or an appliance elsewhere */
export function createClient(place: string | Remote): Client {
  const open = async (method: string, path: string, body?: unknown) => {
    const payload = body === undefined ? undefined : JSON.stringify(body);
    const headers = {
      'User-Agent': userAgent,
      ...(typeof place === 'string' ? {} : { Host: place.url.host, Authorization: `Bearer ${place.token}` }),
      ...(payload === undefined
        ? {}
        : { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(payload) }),
    };
    const unreachable = (error: Error) => {
      const socket = typeof place === 'string' ? place : place.url.origin;
      const why = typeof place === 'string' ? whyUnreachable[errnoOf(error) ?? ''] : undefined;
      return error instanceof SendenseError
        ? error
        : new SendenseError('DAEMON_UNREACHABLE', { socket, detail: why ?? messageOf(error) }, error);
    };
    const tls =
      typeof place === 'string'
        ? null
        : await connectTo(place).catch((error: unknown) => {
            throw unreachable(error instanceof Error ? error : new Error(messageOf(error)));
          });
    const way = tls === null ? { socketPath: String(place) } : { createConnection: () => tls };
    return await new Promise<IncomingMessage>((resolve, reject) => {
      const sent = request({ ...way, method, path: `/api/v1${path}`, headers }, (answer) => {
        if (tls !== null) answer.once('close', () => tls.destroy());
        if ((answer.statusCode ?? 500) < 400) resolve(answer);
        else readAll(answer).then((text) => reject(problemFrom(text)), reject);
      });
      sent.on('error', (error) => reject(unreachable(error)));
      sent.end(payload);
    });
  };
  return {
    open,
    call: async <T>(method: string, path: string, body?: unknown) => {
      const text = await readAll(await open(method, path, body));
      return (text === '' ? null : JSON.parse(text)) as T;
    },
  };
}

async function readAll(answer: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of answer) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString('utf8');
}

/** Turns a problem document into the error that the daemon threw. */
function problemFrom(text: string): SendenseError {
  try {
    const problem = JSON.parse(text) as { code?: unknown; fields?: Record<string, string> };
    if (isErrorCode(problem.code)) return new SendenseError(problem.code, problem.fields ?? {});
  } catch {
    // no JSON: whatever answered is not our daemon
  }
  return new SendenseError('INTERNAL', { detail: `unexpected answer: ${text.slice(0, 200)}` });
}
