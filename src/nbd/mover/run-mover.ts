import { createInterface } from 'node:readline';
import { runPiped } from '../../base/process/run-piped.ts';
import { isErrorCode, messageOf, SendenseError } from '../../base/sendense-error.ts';
import type { PatchSpec } from '../patch/patch-spec.ts';
import type { MoveProgress } from './move-deps.ts';
import type { MoverMessage, MoverOrder, MoverSpec } from './mover-spec.ts';
import type { RowBatch } from './rows/row-batches.ts';

interface MoverRun {
  /** The program `sendense-mover`. */
  readonly moverFile: string;
  readonly spec: MoverSpec | PatchSpec;
  readonly onProgress: (progress: MoveProgress) => void;
  /** Takes the rows of what is flushed, and makes the mover wait as long as it likes. What it throws ends the transfer. */
  readonly onRows?: (batch: RowBatch) => Promise<void>;
  /** Called with what sets the limit of the transfer, bytes per second, 0: none. */
  readonly onLimiter?: (setLimit: (bytesPerSecond: number) => void) => void;
  readonly signal: AbortSignal;
}

/** The byte buffers live outside V8's heap, so a small heap keeps the whole process small. */
const HEAP_FLAGS = ['--max-old-space-size=96', '--max-semi-space-size=2'];

/**
 * A cancelled mover is killed after 5 s. One that is still there then hangs in the kernel, on storage that does not
 * answer; it will never run a line again, so nothing is lost by not waiting for it.
 */
const ABANDON_AFTER_MS = 8_000;

/**
 * Runs one transfer in a process of its own.
 * @throws what the mover failed with; MOVER_DIED when it ended without a word; CANCELLED
 */
export async function runMover(request: MoverRun): Promise<MoveProgress> {
  const { promise: abandoned, reject } = Promise.withResolvers<never>();
  let timer: NodeJS.Timeout | undefined;
  const onAbort = () => {
    timer = setTimeout(() => reject(new SendenseError('CANCELLED')), ABANDON_AFTER_MS);
  };
  request.signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([follow(request), abandoned]);
  } finally {
    request.signal.removeEventListener('abort', onAbort);
    clearTimeout(timer);
  }
}

async function follow(request: MoverRun): Promise<MoveProgress> {
  const child = runPiped(process.execPath, [...HEAP_FLAGS, request.moverFile], { signal: request.signal });
  child.stdin.write(`${JSON.stringify(request.spec)}\n`);
  request.onLimiter?.((bytesPerSecond) =>
    child.stdin.write(`${JSON.stringify({ bytesPerSecond } satisfies MoverOrder)}\n`),
  );
  let done: MoveProgress | null = null;
  let failure: SendenseError | null = null;
  let refused: unknown = null;
  for await (const line of createInterface({ input: child.stdout })) {
    const message = JSON.parse(line) as MoverMessage;
    if (message.type === 'failed') {
      failure = new SendenseError(isErrorCode(message.code) ? message.code : 'INTERNAL', message.fields);
    } else if (message.type === 'rows') {
      if (refused !== null) continue;
      await request.onRows?.(message.batch).catch((error: unknown) => {
        refused = error;
        child.kill('SIGTERM');
      });
    } else {
      if (message.type === 'done') done = message.progress;
      request.onProgress(message.progress);
    }
  }
  const died = await child.done.then(
    () => null,
    (error: unknown) => error,
  );
  if (request.signal.aborted) throw new SendenseError('CANCELLED');
  if (refused !== null) throw refused;
  if (failure) throw failure;
  if (done) return done;
  throw new SendenseError(
    'MOVER_DIED',
    { detail: died === null ? 'it said nothing' : messageOf(died) },
    died,
  );
}
