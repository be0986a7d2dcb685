import { type ErrorCodeEntry, environment, user } from './entry.ts';

/** Jobs and how they end. */
export const jobCodes = {
  JOB_UNKNOWN: user(404, 10, 'No job has the id "{job}".', 'List the jobs with `sendense-ctl job list`.'),
  JOB_FINISHED: user(409, 13, 'The job {job} is already {status}.', 'Nothing to cancel.'),
  CANCELLED: {
    kind: 'user',
    http: 409,
    exit: 130,
    retryable: false,
    text: 'It was cancelled.',
    hint: 'Nothing was published; start it again when you like.',
  },
  WATCH_LOST: environment(
    'The daemon stopped while job {job} was watched.',
    'When it is back: sendense-ctl job watch {job}. A backup that can be gone on with goes on by itself.',
  ),
  INTERRUPTED: environment(
    'The daemon stopped in the middle of it.',
    'Nothing was published; start it again.',
  ),
} as const satisfies Record<string, ErrorCodeEntry>;
