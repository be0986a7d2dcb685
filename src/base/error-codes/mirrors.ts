import { busy, data, environment, user } from './entry.ts';

/** S3 mirrors and what lies in them. */
export const mirrorCodes = {
  MIRROR_UNKNOWN: user(
    404,
    10,
    'No mirror is called "{mirror}".',
    'List them with `sendense-ctl mirror list`.',
  ),
  MIRROR_EXISTS: user(409, 13, 'The mirror "{mirror}" exists already.', 'Pick another name.'),
  MIRROR_BUSY: busy(
    'The mirror "{mirror}" is in use by {holder}.',
    'Wait until that is done; see `sendense-ctl job list --status running`.',
  ),
  MIRROR_INVALID: user(400, 2, 'The mirror cannot be set up so: {detail}.', 'Correct it and try again.'),
  MIRROR_OWNED: user(
    409,
    13,
    'The mirror at {place} belongs to another appliance ({owner}, since {since}).',
    'Two appliances must not write to one prefix. Use another --prefix, read it with `mirror attach`, or, when that appliance is gone for good, take it over with `mirror attach --take-over`.',
  ),
  MIRROR_FENCED: user(
    409,
    13,
    'The mirror at {place} was taken over by another appliance ({owner}) meanwhile.',
    'Nothing more is written to it from here. Remove the mirror here, or take it back with `mirror attach --take-over`.',
  ),
  MIRROR_OTHER: user(
    409,
    13,
    'What lies at {place} is another mirror: {detail}.',
    'Use another --prefix, or attach it with `sendense-ctl mirror attach`.',
  ),
  MIRROR_ABSENT: user(
    404,
    10,
    'There is no mirror at {place}.',
    'Check bucket and prefix; a new one is made with `sendense-ctl mirror add`.',
  ),
  MIRROR_READ_ONLY: user(
    409,
    13,
    'The mirror "{mirror}" was attached for reading only.',
    'To write to it, attach it again with --take-over.',
  ),
  MIRROR_POINT_UNKNOWN: user(
    404,
    10,
    'The mirror "{mirror}" holds no whole restore point "{backup}".',
    'List them with `sendense-ctl mirror points {mirror}`.',
  ),
  MIRROR_PASSPHRASE_WRONG: user(
    403,
    12,
    'None of the keys of the mirror opens with this passphrase.',
    'Give the passphrase or recovery key of this mirror; without one its data cannot be read by anybody.',
  ),
  MIRROR_PASSPHRASE_MISSING: user(
    400,
    2,
    'The mirror is encrypted.',
    'Give its passphrase with --passphrase-file.',
  ),
  MIRROR_LAST_KEY: user(
    409,
    13,
    'The key {slot} is the last one that opens the mirror.',
    'Add another one first with `sendense-ctl mirror key add`.',
  ),
  MIRROR_KEY_UNKNOWN: user(404, 10, 'The mirror has no key {slot}.', 'See `sendense-ctl mirror key list`.'),
  MIRROR_CREDENTIALS: user(
    403,
    12,
    'The S3 server does not accept the keys: {detail}.',
    'Check the access key and the file of the secret key; `sendense-ctl mirror set` changes them.',
  ),
  MIRROR_CLOCK: user(
    409,
    21,
    'The S3 server refuses requests because the clocks differ: it is {server_time} there and {local_time} here.',
    'Set the clock of this machine right (`timedatectl`), then try again.',
  ),
  MIRROR_DENIED: user(
    403,
    12,
    'The S3 server does not allow {action}: {detail}.',
    'Give the keys this right, or use others. Reading needs GetObject and ListBucket, writing also PutObject and DeleteObject.',
  ),
  MIRROR_BUCKET_MISSING: user(
    404,
    10,
    'There is no bucket "{bucket}" at {endpoint}.',
    'Make it there, or let it be made with `mirror add --create-bucket`.',
  ),
  MIRROR_UNREACHABLE: environment(
    'The S3 server at {endpoint} cannot be reached: {detail}.',
    'Check endpoint and network. What was uploaded is kept; the next `mirror sync` goes on from there.',
  ),
  MIRROR_NOT_HTTP: environment(
    'What answers at {endpoint} is no HTTP server: {said}.',
    'See what listens there with `curl -v {endpoint}`, and give the address of the S3 server with --endpoint of `sendense-ctl mirror add` or `mirror attach`. One that is set up already: `mirror remove`, which leaves the bucket alone, then `mirror attach` with the right one.',
    false,
  ),
  MIRROR_THROTTLED: environment(
    'The S3 server at {endpoint} keeps refusing: too many requests.',
    'Try again later, or lower the speed with `sendense-ctl mirror set --mib-per-s`.',
  ),
  MIRROR_FULL: environment(
    'The S3 server takes no more: {detail}.',
    'Delete restore points with `sendense-ctl mirror prune` and `mirror gc`, which work on a full bucket, or raise the quota.',
  ),
  MIRROR_FAILED: environment(
    'The S3 server at {endpoint} could not do it: {detail}.',
    'See the log of the S3 server; then try again.',
  ),
  MIRROR_UNFIT: environment(
    'The S3 server at {endpoint} cannot hold a mirror: {detail}.',
    'Use another server; `sendense-ctl mirror probe` shows what each can do.',
    false,
  ),
  MIRROR_OBJECT_MISSING: data(
    'The object {key} is not in the mirror.',
    'Something deleted it. See what is affected with `sendense-ctl mirror verify`. Restore points that are in the repository are uploaded anew into another mirror: `mirror add` with another prefix, then `mirror sync`.',
  ),
  MIRROR_OBJECT_DAMAGED: data(
    'The object {key} of the mirror is damaged: {detail}.',
    'Find all that is affected with `sendense-ctl mirror verify NAME --deep 100`; then `sendense-ctl mirror sync NAME` uploads anew what the repository still has.',
  ),
  MIRROR_TOO_NEW: data(
    'The object {key} has format {format}; this version reads up to {supported}.',
    'Use the newer Sendense that wrote it.',
  ),
  MIRROR_LOCKED: user(
    409,
    13,
    '{what} is locked until {until}.',
    'It cannot be deleted before. `sendense-ctl mirror points` shows the dates.',
  ),
  MIRROR_CONFLICT: environment(
    'The object {key} was changed by somebody else at the same time.',
    'Try again. If it happens again, another program writes to this prefix.',
    true,
    409,
  ),
  MIRROR_DIED: environment(
    'The program that talks to the mirror ended: {detail}.',
    'Start it again; if it dies again, see the log of the daemon.',
  ),
  MIRROR_LAST_POINT: user(
    409,
    13,
    'These rules would delete the last restore point of {vms} in the mirror.',
    'Change the rules, or say --force if that is what you want.',
  ),
} as const;
