import { type ErrorCodeEntry, environment, user } from './entry.ts';

/** Telling others of events. */
export const notifyCodes = {
  NOTIFY_UNKNOWN: user(
    404,
    10,
    'There is no target of notifications called "{target}".',
    'See `sendense-ctl notify list`.',
  ),
  NOTIFY_EXISTS: user(
    409,
    13,
    'A target of notifications called "{target}" exists already.',
    'Pick another name, or remove it with `sendense-ctl notify remove {target}`.',
  ),
  NOTIFY_FAILED: environment(
    'The notification could not be sent: {detail}',
    'Correct it and try `sendense-ctl notify test NAME`.',
  ),
} as const satisfies Record<string, ErrorCodeEntry>;
