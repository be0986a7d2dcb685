import { busy, type ErrorCodeEntry, user } from './entry.ts';

/** Policies, their runs, and what is protected by them. */
export const policyCodes = {
  POLICY_UNKNOWN: user(
    404,
    10,
    'No policy is called "{policy}".',
    'List them with `sendense-ctl policy list`.',
  ),
  POLICY_EXISTS: user(
    409,
    13,
    'A policy called "{policy}" exists already.',
    'Change it with `sendense-ctl policy set {policy} …`, or pick another name.',
  ),
  POLICY_INVALID: user(
    400,
    2,
    'The policy is not valid: {detail}',
    'Correct the named field; docs/operations.md has an example of each.',
  ),
  POLICY_PLACE_UNKNOWN: user(
    404,
    10,
    'The policy "{policy}" names the {what} "{name}", and there is none of that name. Nothing was changed.',
    'See which there are with `sendense-ctl {what} list`; make it with `sendense-ctl {what} add {name} …`, or name another one.',
  ),
  POLICY_BUSY: busy(
    'A run of the policy "{policy}" ({kind}) goes on since {since}.',
    'Watch it with `sendense-ctl policy runs {policy}`; start another one when it is done.',
  ),
  POLICY_NOTHING_TO_DO: user(
    409,
    13,
    'The policy "{policy}" has nothing to do for {kind}: {detail}.',
    'See what it means with `sendense-ctl policy preview {policy}`.',
  ),
  POLICY_RUN_UNKNOWN: user(
    404,
    10,
    'No run of a policy has the number {run}.',
    'List them with `sendense-ctl policy runs`.',
  ),
  ATTENTION_NEEDED: {
    ...user(
      409,
      4,
      'Somebody should look: {detail}.',
      'Each machine is listed above; `sendense-ctl policy list` shows what means it, `sendense-ctl vm set NAME --unprotected REASON` leaves one out on purpose.',
    ),
    kind: 'environment',
  },
  POLICY_RUN_PARTLY: {
    ...user(
      409,
      3,
      'The run {run} of the policy "{policy}" is done in part: {failed} of {total} failed. {detail}',
      'See each of them with `sendense-ctl policy runs --run {run}`.',
    ),
    kind: 'environment',
  },
  POLICY_RUN_FAILED: {
    ...user(
      409,
      1,
      'The run {run} of the policy "{policy}" failed: {detail}',
      'See each machine with `sendense-ctl policy runs --run {run}`.',
    ),
    kind: 'environment',
  },
} as const satisfies Record<string, ErrorCodeEntry>;
