import { createWriteStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { ExecaError, execa, type ResultPromise } from 'execa';
import { SendenseError } from '../sendense-error.ts';
import { failure, KILL_DELAY_MS, STDERR_TAIL_CHARACTERS } from './tool-failure.ts';

/** A tool that starts in a fraction of a second needs more than ten of them on a machine that does much else. */
const READY_TIMEOUT_MS = 30_000;

export interface DaemonOptions {
  /** Resolves true once the program serves; polled until then. */
  readonly readyWhen: () => Promise<boolean>;
  readonly readyTimeoutMs?: number;
  readonly logFile: string;
  readonly env?: Readonly<Record<string, string>>;
  /** A connection that becomes the program's stdin and stdout; it is the program's alone from then on. */
  readonly connection?: Socket;
}

/** A long-lived tool that we started and must stop. */
export interface RunningDaemon extends AsyncDisposable {
  readonly pid: number;
  /** Resolves with a description of the end, whoever caused it. */
  readonly exited: Promise<string>;
  stop(): Promise<void>;
}

/**
 * Starts a program that stays in the foreground and waits until it serves.
 * @throws TOOL_MISSING, TOOL_FAILED when it ends first, TOOL_TIMEOUT
 */
export async function startDaemon(
  tool: string,
  args: readonly string[],
  options: DaemonOptions,
): Promise<RunningDaemon> {
  const log = createWriteStream(options.logFile, { flags: 'a', mode: 0o640 });
  // what a tool has to say is worth less than the tool: a full disk costs its log only
  log.on('error', () => undefined);
  const child = execa(tool, args, {
    stdin: options.connection ?? 'ignore',
    stdout: options.connection ?? 'pipe',
    env: { LC_ALL: 'C', ...options.env },
    detached: true,
    cleanup: true,
    buffer: false,
    forceKillAfterDelay: KILL_DELAY_MS,
  });
  // our copy of the descriptor would keep the other end waiting after the program has ended
  options.connection?.destroy();
  child.stdout?.pipe(log, { end: false });
  child.stderr?.pipe(log, { end: false });
  const exited = settle(child);
  let ended = false;
  void exited.then(() => {
    ended = true;
    log.end();
  });
  const deadline = Date.now() + (options.readyTimeoutMs ?? READY_TIMEOUT_MS);
  while (!(await isTrueInTime(options.readyWhen(), deadline))) {
    if (ended) {
      const cause: unknown = await child.catch((error: unknown) => error);
      const missing = cause instanceof ExecaError && cause.code === 'ENOENT';
      if (missing) throw failure(tool, cause, {});
      throw new SendenseError('TOOL_FAILED', {
        tool,
        outcome: await exited,
        detail: await tailOf(options.logFile),
      });
    }
    if (Date.now() > deadline) {
      child.kill('SIGKILL');
      throw new SendenseError('TOOL_TIMEOUT', {
        tool,
        seconds: (options.readyTimeoutMs ?? READY_TIMEOUT_MS) / 1000,
      });
    }
    await sleep(5);
  }
  const stop = async () => {
    if (!ended) child.kill('SIGTERM');
    await exited;
  };
  return { pid: child.pid ?? 0, exited, stop, [Symbol.asyncDispose]: stop };
}

/** Asking may hang too. */
async function isTrueInTime(answer: Promise<boolean>, deadlineMs: number): Promise<boolean> {
  const aborter = new AbortController();
  const late = sleep(Math.max(0, deadlineMs - Date.now()) + 1, false, { signal: aborter.signal });
  late.catch(() => undefined);
  try {
    return await Promise.race([answer, late]);
  } finally {
    aborter.abort();
  }
}

async function settle(child: ResultPromise): Promise<string> {
  try {
    await child;
    return 'exit code 0';
  } catch (error) {
    if (!(error instanceof ExecaError)) return String(error);
    return error.signal === undefined ? `exit code ${error.exitCode ?? '?'}` : `signal ${error.signal}`;
  }
}

async function tailOf(file: string): Promise<string> {
  const text = await readFile(file, 'utf8').catch(() => '');
  return text.trim().slice(-STDERR_TAIL_CHARACTERS);
}
