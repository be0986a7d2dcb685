import { createWriteStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { ExecaError, execa, type ResultPromise } from 'execa';
import { SendenseError } from './sendense-error.ts';

/** Which Debian package brings a tool, where it is not its namesake. */
const packages: Readonly<Record<string, string>> = {
  'qemu-img': 'qemu-utils',
  'qemu-nbd': 'qemu-utils',
  'qemu-storage-daemon': 'qemu-system-common',
  sfdisk: 'fdisk',
  blkid: 'util-linux',
  losetup: 'mount',
  umount: 'mount',
  fusermount3: 'fuse3',
  ss: 'iproute2',
  'mount.exfat-fuse': 'exfat-fuse',
  'ntfs-3g.probe': 'ntfs-3g',
  ntfsinfo: 'ntfs-3g',
  btrfstune: 'btrfs-progs',
  pvck: 'lvm2',
  'qemu-system-x86_64': 'qemu-system-x86',
  virsh: 'libvirt-clients',
  ssh: 'openssh-client',
  '/usr/sbin/sshd': 'openssh-server',
  'ssh-keygen': 'openssh-client',
};
export const packageOf = (tool: string): string => packages[tool] ?? tool;

/** A tool that starts in a fraction of a second needs more than ten of them on a machine that does much else. */
const READY_TIMEOUT_MS = 30_000;
const DEFAULT_TIMEOUT_MS = 120_000;
const STDERR_TAIL_CHARACTERS = 2_000;
/** What a tool gets between TERM and KILL. */
const KILL_DELAY_MS = 5_000;
/** Node's timers are 32 bits: beyond about 24 days they fire at once. */
const MAX_TIMER_MS = 2 ** 31 - 1;

export interface RunOptions {
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
  readonly input?: string | Uint8Array;
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Exit codes that are answers, not failures. */
  readonly okExitCodes?: readonly number[];
  /** Called for each line of stdout as it comes; stdout is then not collected. */
  readonly onLine?: (line: string) => void;
  /** Also split stdout at carriage returns (progress meters). */
  readonly splitAtCarriageReturn?: boolean;
}

export interface RunResult {
  readonly stdout: string;
  readonly stderr: string;
  readonly exitCode: number;
}

function failure(tool: string, error: unknown, options: RunOptions): SendenseError {
  if (!(error instanceof ExecaError)) return new SendenseError('INTERNAL', { detail: String(error) }, error);
  if (error.code === 'ENOENT') {
    return new SendenseError('TOOL_MISSING', { tool, install: `apt-get install ${packageOf(tool)}` }, error);
  }
  if (options.signal?.aborted) return new SendenseError('CANCELLED', {}, error);
  const outcome =
    error.signal === undefined ? `exit code ${error.exitCode ?? '?'}` : `signal ${error.signal}`;
  // execa only repeats the command line of a program that ended
  const hasEnded = error.signal !== undefined || error.exitCode !== undefined;
  const silence = hasEnded ? 'it said nothing' : error.shortMessage;
  const tail = String(error.stderr ?? '')
    .trim()
    .slice(-STDERR_TAIL_CHARACTERS);
  return new SendenseError('TOOL_FAILED', { tool, outcome, detail: tail || silence }, error);
}

/**
 * Runs a program to its end: no shell, C locale, its own process group, a time limit.
 * @throws TOOL_MISSING, TOOL_FAILED with the tail of stderr, TOOL_TIMEOUT, CANCELLED
 */
export async function run(
  tool: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<RunResult> {
  const child = execa(tool, args, {
    stdin: options.input === undefined ? 'ignore' : 'pipe',
    ...(options.input === undefined ? {} : { input: options.input }),
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    env: { LC_ALL: 'C', ...options.env },
    detached: true,
    cleanup: true,
    stripFinalNewline: false,
    buffer: options.onLine === undefined ? true : { stdout: false, stderr: true },
    maxBuffer: 64 * 1024 * 1024,
  });
  if (options.onLine) feedLines(child.stdout, options.onLine, options.splitAtCarriageReturn ?? false);
  const limit = endGroupAtLimit(child.pid, options);
  try {
    const result = await child;
    return { stdout: String(result.stdout ?? ''), stderr: String(result.stderr), exitCode: 0 };
  } catch (error) {
    if (limit.timedOut()) {
      throw new SendenseError(
        'TOOL_TIMEOUT',
        { tool, seconds: (options.timeoutMs ?? DEFAULT_TIMEOUT_MS) / 1000 },
        error,
      );
    }
    const code = error instanceof ExecaError && error.signal === undefined ? error.exitCode : undefined;
    if (error instanceof ExecaError && code !== undefined && options.okExitCodes?.includes(code)) {
      return { stdout: String(error.stdout ?? ''), stderr: String(error.stderr), exitCode: code };
    }
    throw failure(tool, error, options);
  } finally {
    limit.release();
  }
}

/**
 * Ends the whole process group at the time limit or when the caller gives up: a shell's children hold its pipes
 * open, so ending the shell alone would end nothing.
 */
function endGroupAtLimit(
  pid: number | undefined,
  options: RunOptions,
): { timedOut: () => boolean; release: () => void } {
  let isTimeout = false;
  let killTimer: NodeJS.Timeout | undefined;
  const signalGroup = (signal: 'SIGTERM' | 'SIGKILL') => {
    try {
      if (pid !== undefined) process.kill(-pid, signal);
    } catch {
      // it has ended already
    }
  };
  const end = () => {
    signalGroup('SIGTERM');
    killTimer ??= setTimeout(() => signalGroup('SIGKILL'), KILL_DELAY_MS);
  };
  const timer = setTimeout(
    () => {
      isTimeout = true;
      end();
    },
    Math.min(options.timeoutMs ?? DEFAULT_TIMEOUT_MS, MAX_TIMER_MS),
  );
  options.signal?.addEventListener('abort', end, { once: true });
  if (options.signal?.aborted) end();
  return {
    timedOut: () => isTimeout,
    release: () => {
      clearTimeout(timer);
      clearTimeout(killTimer);
      options.signal?.removeEventListener('abort', end);
    },
  };
}

function feedLines(
  stream: NodeJS.ReadableStream | null,
  onLine: (line: string) => void,
  splitAtCarriageReturn: boolean,
): void {
  if (stream === null) return;
  const separator = splitAtCarriageReturn ? /[\r\n]/ : /\n/;
  let rest = '';
  stream.setEncoding('utf8');
  stream.on('data', (chunk: string) => {
    const lines = (rest + chunk).split(separator);
    rest = lines.pop() ?? '';
    for (const line of lines) onLine(line);
  });
  stream.on('end', () => {
    if (rest !== '') onLine(rest);
  });
}

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

/** A program that talks over its pipes while it runs. */
export interface PipedProcess {
  readonly pid: number | undefined;
  readonly stdout: NodeJS.ReadableStream;
  readonly stdin: NodeJS.WritableStream;
  kill(signal: 'SIGTERM' | 'SIGKILL'): void;
  /** Ends with the program. @throws as `run` does */
  readonly done: Promise<void>;
}

/** Starts a program whose output is streamed by the caller; the caller sets the time limit. */
export function runPiped(
  tool: string,
  args: readonly string[],
  options: { cwd?: string; signal?: AbortSignal } = {},
): PipedProcess {
  const child = execa(tool, args, {
    stdin: 'pipe',
    env: { LC_ALL: 'C' },
    detached: true,
    cleanup: true,
    buffer: { stdout: false, stderr: true },
    maxBuffer: 1024 * 1024,
    forceKillAfterDelay: KILL_DELAY_MS,
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.signal === undefined ? {} : { cancelSignal: options.signal }),
  });
  // a program that ends early makes the pipe fail; its exit code tells the story
  child.stdin.on('error', () => undefined);
  const done = child.then(
    () => undefined,
    (error: unknown) => {
      throw failure(tool, error, options.signal === undefined ? {} : { signal: options.signal });
    },
  );
  done.catch(() => undefined);
  return {
    pid: child.pid,
    stdout: child.stdout,
    stdin: child.stdin,
    kill: (signal) => child.kill(signal),
    done,
  };
}
