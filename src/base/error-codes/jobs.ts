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
  INTERRUPTED: environment(
    'The daemon stopped in the middle of it.',
    'Nothing was published; start it again.',
  ),
} as const satisfies Record<string, ErrorCodeEntry>;
