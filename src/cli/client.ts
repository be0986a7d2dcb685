import { type IncomingMessage, request } from 'node:http';
import { errnoOf, isErrorCode, messageOf, SendenseError } from '../base/sendense-error.ts';

/** The daemon over its unix socket. */
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

export function createClient(socketPath: string): Client {
  const open = (method: string, path: string, body?: unknown) =>
    new Promise<IncomingMessage>((resolve, reject) => {
      const payload = body === undefined ? undefined : JSON.stringify(body);
      const headers =
        payload === undefined
          ? { 'User-Agent': userAgent }
          : {
              'User-Agent': userAgent,
              'Content-Type': 'application/json',
              'Content-Length': Buffer.byteLength(payload),
            };
      const sent = request({ socketPath, method, path: `/api/v1${path}`, headers }, (answer) => {
        if ((answer.statusCode ?? 500) < 400) resolve(answer);
        else readAll(answer).then((text) => reject(problemFrom(text)), reject);
      });
      sent.on('error', (error) => {
        const detail = whyUnreachable[errnoOf(error) ?? ''] ?? messageOf(error);
        reject(new SendenseError('DAEMON_UNREACHABLE', { socket: socketPath, detail }, error));
      });
      sent.end(payload);
    });
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
