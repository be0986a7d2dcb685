import { stat } from 'node:fs/promises';
import { run } from '../../base/process/run.ts';

const PROGRESS_MS = 500;
const WHOLE_DISK_TIMEOUT_MS = 7 * 24 * 3600 * 1000;

/**
 * Copies a file as it is: shared blocks where the file system can, holes stay holes.
 * What is there is replaced in place, so that a name that was claimed stays claimed.
 * @param onProgress bytes that the copy takes up by now
 * @throws TOOL_FAILED, CANCELLED
 */
export async function copyFile(
  from: string,
  to: string,
  onProgress: (bytes: number) => void,
  signal: AbortSignal,
): Promise<void> {
  const timer = setInterval(() => {
    stat(to).then(
      ({ blocks }) => onProgress(blocks * 512),
      () => undefined, // it is not there yet
    );
  }, PROGRESS_MS);
  try {
    await run('cp', ['--reflink=auto', '--sparse=auto', '--', from, to], {
      signal,
      timeoutMs: WHOLE_DISK_TIMEOUT_MS,
    });
  } finally {
    clearInterval(timer);
  }
}
