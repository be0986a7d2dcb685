import { createInterface } from 'node:readline';
import { type ErrorCode, errorCodes } from '../../base/error-codes.ts';
import { SendenseError } from '../../base/sendense-error.ts';
import { formatBytes, formatDuration } from '../../base/units.ts';
import type { Client } from '../connection/client.ts';
import { say } from '../output.ts';

export interface JobView {
  readonly job_id: string;
  readonly kind: string;
  readonly status: string;
  readonly phase: string | null;
  readonly vm_name: string | null;
  readonly backup_id: string | null;
  readonly progress: {
    total_bytes: number;
    processed_bytes: number;
    transferred_bytes: number;
    bytes_per_second: number;
    eta_seconds: number | null;
  };
  readonly warnings: readonly string[];
  readonly result: Readonly<Record<string, unknown>> | null;
  readonly error: { code: ErrorCode; fields: Record<string, string> } | null;
  readonly created_at: string;
  readonly finished_at: string | null;
}

/** `[ 38% ] 2.3 GiB  146 MiB/s  ETA 00:41  transferring`. Pure. */
export function progressLine(job: JobView): string {
  const { total_bytes, processed_bytes, bytes_per_second, eta_seconds } = job.progress;
  const percent = total_bytes > 0 ? Math.floor((processed_bytes / total_bytes) * 100) : 0;
  const eta = eta_seconds === null ? '--:--' : formatDuration(eta_seconds);
  return `[${String(percent).padStart(3)}% ] ${formatBytes(processed_bytes)}  ${formatBytes(bytes_per_second)}/s  ETA ${eta}  ${job.phase ?? job.status}`;
}

/** Phases that have a measure worth a line. */
const toldPhases = new Set<string | null>([
  'transferring',
  'copying',
  'verifying',
  'merging',
  'compressing',
  'uploading',
  'fetching',
]);

/**
 * Follows a job to its end: a live line on a terminal, a line per 10 % elsewhere. Ctrl-C cancels the job and still
 * waits for its clean end.
 * @throws what the job failed with
 */
export async function waitForJob(client: Client, jobId: string): Promise<JobView> {
  const cancel = () => {
    say('\nCancelling …');
    client.call('POST', `/jobs/${jobId}/cancel`).catch(() => undefined); // it may have ended meanwhile
  };
  process.on('SIGINT', cancel);
  let last: JobView | null = null;
  let shownTenth = -1;
  try {
    const stream = await client.open('GET', `/jobs/${jobId}/events`);
    for await (const line of createInterface({ input: stream })) {
      if (!line.startsWith('data: ')) continue;
      const job: JobView = JSON.parse(line.slice(6));
      last = job;
      const { total_bytes, processed_bytes } = job.progress;
      const tenth = total_bytes > 0 ? Math.floor((processed_bytes / total_bytes) * 10) : 0;
      if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${progressLine(job)}`);
      else if (tenth > shownTenth && job.status === 'running' && toldPhases.has(job.phase)) {
        shownTenth = tenth;
        say(progressLine(job));
      }
    }
  } catch (error) {
    // the stream broke: the daemon was killed, or the way to it
    if (error instanceof SendenseError) throw error;
    throw new SendenseError('WATCH_LOST', { job: jobId }, error);
  } finally {
    process.off('SIGINT', cancel);
    if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');
  }
  if (!last || !['completed', 'failed', 'cancelled'].includes(last.status))
    throw new SendenseError('WATCH_LOST', { job: jobId });
  for (const warning of last.warnings) say(`warning: ${warning}`);
  if (last.status !== 'completed') {
    const code = last.error && Object.hasOwn(errorCodes, last.error.code) ? last.error.code : 'INTERNAL';
    throw new SendenseError(code, last.error?.fields ?? {});
  }
  return last;
}
