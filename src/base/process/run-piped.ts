import { execa } from 'execa';
import { failure, KILL_DELAY_MS } from './tool-failure.ts';

/** A program that talks over its pipes while it runs. */
export interface PipedProcess {
  readonly pid: number | undefined;
  readonly stdout: NodeJS.ReadableStream;
  readonly stdin: NodeJS.WritableStream;
  kill(signal: 'SIGTERM' | 'SIGKILL'): void;
  /** Ends with the program. @throws as `run` does */
  readonly done: Promise<void>;
}

interface PipedOptions {
  readonly cwd?: string;
  /** Added to the environment. */
  readonly env?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
}

/** Starts a program whose output is streamed by the caller; the caller sets the time limit. */
export function runPiped(tool: string, args: readonly string[], options: PipedOptions = {}): PipedProcess {
  const child = execa(tool, args, {
    stdin: 'pipe',
    env: { LC_ALL: 'C', ...options.env },
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
