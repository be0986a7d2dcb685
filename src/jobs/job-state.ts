import type { JobStatus } from '../catalog/points/backup-rows.ts';

export type JobEvent = 'start' | 'complete' | 'fail' | 'cancel';

const transitions: Readonly<Record<JobStatus, Partial<Record<JobEvent, JobStatus>>>> = {
  pending: { start: 'running', fail: 'failed', cancel: 'cancelled' },
  running: { complete: 'completed', fail: 'failed', cancel: 'cancelled' },
  completed: {},
  failed: {},
  cancelled: {},
};

/** The next status, or null when the event has no place there. Pure. */
export const nextStatus = (status: JobStatus, event: JobEvent): JobStatus | null =>
  transitions[status][event] ?? null;

export const isFinished = (status: JobStatus): boolean => Object.keys(transitions[status]).length === 0;
