import { open, readlink } from 'node:fs/promises';
import { run } from '../../base/process/run.ts';

/** About ten thousand lines. */
const TAIL_BYTES = 2 * 1024 * 1024;
const TAIL_LINES = 10_000;
const stderrFile = '/proc/self/fd/2';

/** The end of this daemon's own log, from where its stderr goes; else why there is none. */
export async function logTail(): Promise<string> {
  const target = await readlink(stderrFile).catch(() => '');
  if (target.startsWith('socket:')) return await journal();
  if (!target.startsWith('/') || target.startsWith('/dev/'))
    return `The log goes to ${target || 'nowhere'}: it cannot be read back.\n`;
  try {
    await using handle = await open(stderrFile, 'r');
    const { size } = await handle.stat();
    const bytes = Buffer.alloc(Math.min(size, TAIL_BYTES));
    const { bytesRead } = await handle.read(bytes, 0, bytes.length, size - bytes.length);
    const text = bytes.subarray(0, bytesRead).toString('utf8');
    // a line that is cut could hide a half of what is looked for in it
    return size > bytes.length ? text.slice(text.indexOf('\n') + 1) : text;
  } catch (error) {
    return `The log ${target} cannot be read: ${String(error)}\n`;
  }
}

async function journal(): Promise<string> {
  const args = ['--no-pager', '--output=cat', `--lines=${TAIL_LINES}`, `_PID=${process.pid}`];
  return await run('journalctl', args).then(
    ({ stdout }) => stdout,
    (error: unknown) => `The journal cannot be read: ${String(error)}\n`,
  );
}
