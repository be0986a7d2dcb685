import { chmod, chown, rm } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import type { z } from 'zod';
import type { Logger } from '../base/logger.ts';
import { parseInput } from '../base/parse-input.ts';
import { SendenseError, toSendenseError } from '../base/sendense-error.ts';
import { MAX_LINE_BYTES, requestMessage, workArguments } from './messages.ts';
import { peerUsers } from './peer-user.ts';
import type { PrivilegedWork } from './privileged-work.ts';

interface ServeDeps {
  readonly work: PrivilegedWork;
  readonly socketFile: string;
  /** Descriptor of a socket that the service manager listens on already; null: it is made here. */
  readonly activated: number | null;
  /** The only user who is listened to. */
  readonly uid: number;
  readonly gid: number;
  readonly logger: Logger;
}

/**
 * Offers the work on a unix socket: one request per line, answered by a line, in whatever order they finish.
 * Nobody but the user can connect, and who is at the other end is looked up too.
 * @returns ends it; what is mounted stays
 */
export async function serveWork(deps: ServeDeps): Promise<() => Promise<void>> {
  const connections = new Set<Socket>();
  const server = createServer({ pauseOnConnect: true }, (socket) => {
    connections.add(socket);
    socket.on('error', () => undefined);
    socket.on('close', () => connections.delete(socket));
    void admit(deps, socket);
  });
  await (deps.activated === null ? listenAnew(deps, server) : listenOn(server, deps.activated));
  return async () => {
    for (const socket of connections) socket.destroy();
    await new Promise<void>((resolve) => server.close(() => resolve()));
  };
}

async function listenAnew({ socketFile, uid, gid }: ServeDeps, server: Server): Promise<void> {
  await rm(socketFile, { force: true });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    // until it belongs to the user nobody else may connect either
    const before = process.umask(0o177);
    server.listen(socketFile, resolve);
    process.umask(before);
  });
  await chown(socketFile, uid, gid);
  await chmod(socketFile, 0o600);
}

const listenOn = (server: Server, fd: number) =>
  new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen({ fd }, resolve);
  });

async function admit(deps: ServeDeps, socket: Socket): Promise<void> {
  const users = await peerUsers(socket).catch((error: unknown) => {
    deps.logger.error({ error: String(error) }, 'who connects cannot be told');
    return [];
  });
  if (users.length === 0 || users.some((uid) => uid !== deps.uid)) {
    deps.logger.warn({ users }, 'somebody else than the user was turned away');
    socket.destroy();
    return;
  }
  let rest = '';
  socket.setEncoding('utf8');
  socket.on('data', (chunk: string) => {
    const lines = (rest + chunk).split('\n');
    rest = lines.pop() ?? '';
    if (rest.length > MAX_LINE_BYTES) socket.destroy();
    for (const line of lines) void answer(deps, line).then((text) => socket.write(`${text}\n`));
  });
  socket.resume();
}

async function answer({ work, logger }: ServeDeps, line: string): Promise<string> {
  let id = -1;
  try {
    const request = parse(line);
    id = request.id;
    const schema: z.ZodType<unknown[]> = workArguments[request.work];
    const args = parseInput(schema, request.args, request.work, badRequest);
    // the tuple of this very work was checked a line above
    const call = work[request.work] as (...given: unknown[]) => Promise<unknown>;
    const result = await call.apply(work, args);
    return JSON.stringify({ id, result: result ?? null });
  } catch (error) {
    const { code, fields } = toSendenseError(error);
    if (code === 'INTERNAL') logger.error({ error }, 'a request failed');
    return JSON.stringify({ id, error: { code, fields } });
  }
}

function parse(line: string) {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw badRequest('it is no JSON');
  }
  return parseInput(requestMessage, value, 'the request', badRequest);
}

const badRequest = (detail: string) => new SendenseError('MOUNTD_REFUSED', { detail });
