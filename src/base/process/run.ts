import { ExecaError, execa } from 'execa';
import { SendenseError } from '../sendense-error.ts';
import { failure, KILL_DELAY_MS } from './tool-failure.ts';

const DEFAULT_TIMEOUT_MS = 120_000;
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
