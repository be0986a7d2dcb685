import { busy, type ErrorCodeEntry, user } from './entry.ts';

/** What is wrong with a request itself, or with the settings. */
export const requestCodes = {
  REQUEST_INVALID: user(
    400,
    2,
    'The request is not valid: {detail}',
    'Correct the named field and send it again.',
  ),
  ROUTE_UNKNOWN: user(404, 10, 'There is no {method} {path}.', 'See /api/docs for the routes.'),
  METHOD_WRONG: user(
    405,
    2,
    'There is no {method} {path}; it takes {allowed}.',
    'See /api/docs for the routes.',
  ),
  REQUEST_TOO_LARGE: user(
    413,
    2,
    'The request has a body of more than {limit} bytes.',
    'Send less; files are never sent to the daemon, only their paths.',
  ),
  CONFIG_INVALID: user(
    400,
    2,
    'The configuration is not valid: {detail}',
    'Correct it where it was set: in the file, in a SENDENSE_… variable or with --set. README.md lists all settings with their defaults.',
  ),
  IDEMPOTENCY_MISMATCH: user(
    422,
    13,
    'The Idempotency-Key "{key}" was used for another request.',
    'Use a new key for a new request.',
  ),
  IDEMPOTENCY_RUNNING: busy(
    'A request with the Idempotency-Key "{key}" is still running.',
    'Wait and send it again.',
  ),
  NOT_ALLOWED: user(403, 12, '{detail}', 'Ask an operator with the right to do it.'),
  LIMIT_REACHED: {
    ...busy(
      'Too many {what} at once: the limit is {limit}.',
      'Wait until one ends, or raise the limit in the configuration.',
    ),
    http: 429,
  },
} as const satisfies Record<string, ErrorCodeEntry>;
