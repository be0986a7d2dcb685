import { rm, stat } from 'node:fs/promises';
import { run } from '../../base/process.ts';

const PROGRESS_MS = 500;
const WHOLE_DISK_TIMEOUT_MS = 7 * 24 * 3600 * 1000;

/**
 * Copies a file as it is: shared blocks where the file system can, holes stay holes.
 * @param onProgress bytes that the copy takes up by now
 * @throws TOOL_FAILED, CANCELLED
 */
export async function copyFile(
  from: string,
  to: string,
  onProgress: (bytes: number) => void,
  signal: AbortSignal,
): Promise<void> {
  await rm(to, { force: true });
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
