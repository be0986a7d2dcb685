import { randomBytes } from 'node:crypto';
import { readFile, rm, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type RunOptions, run } from '../../../base/process/run.ts';
import { runPiped } from '../../../base/process/run-piped.ts';
import { hasCode, messageOf, SendenseError, toSendenseError } from '../../../base/sendense-error.ts';
import { probeExport } from '../../../nbd/client/nbd-connection.ts';
import type { LibvirtPlace, SshTarget } from './libvirt-uri.ts';
import { sharedLogin, sshLogin } from './ssh-master.ts';

/** The machine on which a libvirt and its disks are. */
export interface Host {
  /** Runs a program there to its end. @throws TOOL_FAILED, TOOL_MISSING, TOOL_TIMEOUT, CANCELLED */
  run(tool: string, args: readonly string[], signal?: AbortSignal): Promise<string>;
  readFile(path: string): Promise<Buffer>;
  /** A new file that only its owner may read. @throws when it exists */
  writeFile(path: string, bytes: Uint8Array): Promise<void>;
  removeFiles(paths: readonly string[]): Promise<void>;
  freeBytes(folder: string): Promise<number>;
  /** A socket of this machine behind which the one there is. */
  forward(socket: string): Promise<Forwarded>;
  /** Starts a server there that makes `socket`; it ends when it is disposed, or when this process dies. */
  serve(tool: string, args: readonly string[], socket: string): Promise<Forwarded>;
}

export interface Forwarded extends AsyncDisposable {
  readonly socketPath: string;
}

const READY_MS = 15_000;

/** @param runFolder for the sockets of this side */
export const hostOf = (place: LibvirtPlace, runFolder: string): Host =>
  place.ssh === null ? localHost() : sshHost(place.ssh, runFolder);

function localHost(): Host {
  return {
    run: async (tool, args, signal) => (await run(tool, args, signal === undefined ? {} : { signal })).stdout,
    readFile: (path) => readFile(path),
    writeFile: (path, bytes) => writeFile(path, bytes, { mode: 0o600, flag: 'wx' }),
    removeFiles: async (paths) => {
      for (const path of paths) await rm(path, { force: true });
    },
    freeBytes: async (folder) => {
      const { bavail, bsize } = await statfs(folder);
      return bavail * bsize;
    },
    forward: async (socketPath) => ({ socketPath, [Symbol.asyncDispose]: async () => undefined }),
    serve: (tool, args, socketPath) =>
      serveWhileHeld('/bin/sh', ['-c', whileHeld(tool, args)], socketPath, socketPath),
  };
}

/** A name that ssh makes a socket of must be short. */
const newSocket = (folder: string) => join(folder, `s${randomBytes(5).toString('hex')}`);

function sshHost(target: SshTarget, runFolder: string): Host {
  // what a forward opens ends with its own connection, not with a shared one
  const login = sshLogin(target, ['-o', 'ControlPath=none']);
  const remote = async (command: string, options: RunOptions = {}) => {
    const shared = sshLogin(target, await sharedLogin(target, runFolder));
    return (await run('ssh', [...shared, command], options)).stdout;
  };
  return {
    run: (tool, args, signal) => remote(quoted([tool, ...args]), signal === undefined ? {} : { signal }),
    readFile: async (path) => Buffer.from(await remote(`base64 -- ${quoted([path])}`), 'base64'),
    writeFile: async (path, bytes) => {
      const script = `umask 077; set -C; base64 -d > ${quoted([path])}`;
      await remote(script, { input: Buffer.from(bytes).toString('base64') });
    },
    removeFiles: async (paths) => {
      if (paths.length > 0) await remote(`rm -f -- ${quoted(paths)}`);
    },
    freeBytes: async (folder) => {
      const text = await remote(`df -P -B1 -- ${quoted([folder])}`);
      const free = Number(text.trim().split('\n').at(-1)?.split(/\s+/)[3]);
      if (!Number.isSafeInteger(free))
        throw new SendenseError('TOOL_FAILED', { tool: 'df', outcome: 'exit code 0', detail: text });
      return free;
    },
    forward: (socket) => {
      const local = newSocket(runFolder);
      const args = ['-N', '-o', 'ExitOnForwardFailure=yes', '-o', 'StreamLocalBindUnlink=yes'];
      return serveWhileHeld('ssh', [...args, '-L', `${local}:${socket}`, ...login], local, local);
    },
    serve: async (tool, args, socket) => {
      const local = newSocket(runFolder);
      const forward = ['-o', 'ExitOnForwardFailure=yes', '-o', 'StreamLocalBindUnlink=yes'];
      return await serveWhileHeld(
        'ssh',
        [...forward, '-L', `${local}:${socket}`, ...login, whileHeld(tool, args)],
        local,
        socket,
      );
    },
  };
}

/** For the shell at the other end. */
const quoted = (words: readonly string[]): string =>
  words.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(' ');

/** The server ends with its stdin, so that nothing stays behind when a connection or this process dies. */
const whileHeld = (tool: string, args: readonly string[]): string =>
  `exec 3<&0; ${quoted([tool, ...args])} <&- & pid=$!; (cat <&3 >/dev/null; kill $pid) 2>/dev/null & wait $pid`;

/** @param told what an error calls it */
async function serveWhileHeld(
  tool: string,
  args: readonly string[],
  socketPath: string,
  told: string,
): Promise<Forwarded> {
  const child = runPiped(tool, args);
  child.stdout.resume();
  let ended: unknown = null;
  const done = child.done.then(
    () => (ended = new Error('it ended')),
    (error: unknown) => (ended = error),
  );
  const stop = async () => {
    child.stdin.end();
    // ssh -N does not look at its stdin
    child.kill('SIGTERM');
    await done;
    await rm(socketPath, { force: true });
  };
  const deadline = Date.now() + READY_MS;
  for (;;) {
    if (await answers(socketPath)) return { socketPath, [Symbol.asyncDispose]: stop };
    if (ended !== null || Date.now() > deadline) {
      const detail = ended === null ? `no answer within ${READY_MS / 1000} s` : failureOf(ended);
      await stop();
      throw new SendenseError('SOURCE_UNREADABLE', { path: told, detail });
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const failureOf = (error: unknown): string =>
  hasCode(error, 'TOOL_FAILED') ? String(toSendenseError(error).fields['detail']) : messageOf(error);

/** Any answer of an NBD server will do, also that it does not know this export. */
async function answers(socketPath: string): Promise<boolean> {
  try {
    await probeExport({ socketPath, exportName: '' }, 2_000);
    return true;
  } catch (error) {
    return hasCode(error, 'EXPORT_FAILED');
  }
}
