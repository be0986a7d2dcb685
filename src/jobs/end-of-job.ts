import type { Job } from '../catalog/jobs.ts';

/** How a job ended, as an event says it. Pure. */
export function endOf(
  job: Pick<Job, 'status' | 'warnings' | 'error'>,
  kind: string,
  sentences: { readonly completed: string; readonly cancelled: string; readonly failed: string },
): { kind: string; severity: 'info' | 'warning' | 'error'; message: string } {
  if (job.status === 'completed') {
    const severity = job.warnings.length > 0 ? 'warning' : 'info';
    return { kind: `${kind}.completed`, severity, message: sentences.completed };
  }
  // somebody wanted it so: worth a look, but nothing is broken
  if (job.status === 'cancelled')
    return { kind: `${kind}.cancelled`, severity: 'warning', message: sentences.cancelled };
  const reason = job.error?.message ?? 'nobody knows why.';
  return { kind: `${kind}.failed`, severity: 'error', message: `${sentences.failed}${reason}` };
}
