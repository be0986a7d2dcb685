import { createInterface } from 'node:readline';
import { runPiped } from '../../base/process/run-piped.ts';
import { transferHeap } from '../../base/process/transfer-heap.ts';
import { isErrorCode, messageOf, SendenseError } from '../../base/sendense-error.ts';
import type { MirrorMessage, MirrorTask, TaskProgress, TaskResults } from './mirror-task.ts';

interface RunTask<T extends MirrorTask> {
  /** The program `sendense-mirror`. */
  readonly mirrorFile: string;
  readonly task: T;
  readonly onProgress?: (progress: TaskProgress) => void;
  /** It serves, and goes on until it is cancelled. */
  readonly onReady?: () => void;
  readonly signal: AbortSignal;
}

/** Packs live outside V8's heap. */
const HEAP_FLAGS = ['--max-old-space-size=192', '--max-semi-space-size=4'];

/**
 * Does one thing with a mirror in a process of its own: the SDK, the keys and the packs stay out of the daemon.
 * @throws what it failed with; MIRROR_DIED when it ended without a word; CANCELLED
 */
export async function runTask<T extends MirrorTask>(request: RunTask<T>): Promise<TaskResults[T['task']]> {
  const child = runPiped(process.execPath, [...HEAP_FLAGS, request.mirrorFile], {
    env: transferHeap,
    signal: request.signal,
  });
  child.stdin.write(`${JSON.stringify(request.task)}\n`);
  let done: { readonly result: unknown } | null = null;
  let failure: SendenseError | null = null;
  for await (const line of createInterface({ input: child.stdout })) {
    const message = JSON.parse(line) as MirrorMessage;
    if (message.type === 'failed')
      failure = new SendenseError(isErrorCode(message.code) ? message.code : 'INTERNAL', message.fields);
    else if (message.type === 'progress') request.onProgress?.(message.progress);
    else if (message.type === 'ready') request.onReady?.();
    else done = message;
  }
  const died = await child.done.then(
    () => null,
    (error: unknown) => error,
  );
  if (request.signal.aborted) throw new SendenseError('CANCELLED');
  if (failure) throw failure;
  if (done) return done.result as TaskResults[T['task']];
  throw new SendenseError(
    'MIRROR_DIED',
    { detail: died === null ? 'it said nothing' : messageOf(died) },
    died,
  );
}
