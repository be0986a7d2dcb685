/**
 * Does one thing with an S3 mirror, as a process of its own. The task comes as a line on stdin, with its secrets;
 * progress and the answer go out as lines on stdout. When stdin closes, nobody wants the result any more.
 */
import { createInterface } from 'node:readline';
import { toSendenseError } from '../base/sendense-error.ts';
import { carryOut } from '../mirror/program/carry-out.ts';
import type { MirrorMessage, MirrorTask } from '../mirror/program/mirror-task.ts';
import { noSyncProgress } from '../mirror/upload/sync-progress.ts';

const PROGRESS_INTERVAL_MS = 250;

const say = (message: MirrorMessage | { type: 'failed'; code: string; fields: unknown }) =>
  process.stdout.write(`${JSON.stringify(message)}\n`);

async function main(): Promise<void> {
  const aborter = new AbortController();
  const lines = createInterface({ input: process.stdin });
  process.on('SIGTERM', () => aborter.abort());
  const task = await new Promise<MirrorTask>((resolve, reject) => {
    // written by our own daemon, from these types
    lines.once('line', (line) => resolve(JSON.parse(line) as MirrorTask));
    lines.once('close', () => reject(new Error('no task on stdin')));
  });
  lines.once('close', () => aborter.abort());
  const progress = noSyncProgress();
  const timer = setInterval(() => say({ type: 'progress', progress }), PROGRESS_INTERVAL_MS);
  try {
    const result = await carryOut(task, {
      signal: aborter.signal,
      progress,
      onReady: () => say({ type: 'ready' }),
    });
    say({ type: 'done', result });
  } catch (error) {
    const { code, fields } = toSendenseError(error);
    say({ type: 'failed', code, fields });
  } finally {
    clearInterval(timer);
  }
  // stdin may still be open; the answer has been given
  process.stdout.end(() => process.exit(0));
}

await main();
