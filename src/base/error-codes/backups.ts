import { busy, data, type ErrorCodeEntry, user } from './entry.ts';

/** Backups and the layers they are made of. */
export const backupCodes = {
  BACKUP_UNKNOWN: user(
    404,
    10,
    'No backup matches "{backup}".',
    'List the backups with `sendense-ctl backup list`.',
  ),
  BACKUP_AMBIGUOUS: user(409, 13, '"{backup}" matches {count} backups.', 'Give more of the id: {candidates}'),
  BACKUP_NOT_COMPLETE: user(
    409,
    13,
    'The backup {backup} is {status}, not completed.',
    'Only completed backups can be read; see `sendense-ctl backup show {backup}`.',
  ),
  BACKUP_HAS_DEPENDANTS: user(
    409,
    13,
    'The backup {backup} is needed by {count} newer backups: {dependants}',
    'Delete only this one and keep what they need with --merge, or all of them with --cascade.',
  ),
  BACKUP_PINNED: user(
    409,
    13,
    'The backup {backup} is pinned {until}: {reason}',
    'Take the pin away with `sendense-ctl backup unpin {backup}`, or delete it all the same with --force.',
  ),
  PIN_UNKNOWN: user(
    404,
    10,
    'The backup {backup} has no pin {pin}.',
    'See `sendense-ctl backup show {backup}`.',
  ),
  CHAIN_BUSY: busy(
    'The chains of {vm} are in use by {holder}.',
    'Wait until that is done; see `sendense-ctl job list --status running`.',
  ),
  PLAN_UNKNOWN: user(
    404,
    10,
    'There is no prune plan {plan}.',
    'Make a new one with `sendense-ctl prune plan`.',
  ),
  PLAN_STALE: user(
    409,
    13,
    'The plan {plan} does not hold any more: {detail}',
    'Nothing was deleted. Make a new plan with `sendense-ctl prune plan` and look at it.',
  ),
  PRUNE_LAST_GOOD: user(
    409,
    13,
    'These rules would delete the last good restore point of {vms}.',
    'Change the rules, or say --force if that is what you want.',
  ),
  BACKUP_BUSY: busy(
    'The backup {backup} is in use by {holder}.',
    'Wait until that is done, or remove the mount with `sendense-ctl mount remove`.',
  ),
  CHAIN_PARENT_MISSING: data(
    'The layer {layer} is missing from the chain.',
    'Bring the file back from a copy, or take a restore point that does not need it: `sendense-ctl backup chain --vm NAME`. The next backup of this disk becomes a full by itself.',
  ),
  LAYER_CORRUPT: data(
    'The layer {layer} is damaged: {detail}',
    'Newer restore points on it cannot be trusted; the next backup of this disk becomes a full by itself.',
  ),
  LAYER_REFUSED: data(
    'The layer {layer} is refused: {detail}',
    'Somebody changed this file. Restore it from a copy, or delete the backups that need it.',
  ),
  ROWS_DAMAGED: data(
    'The digests of the layer {layer} are damaged: {detail}',
    'Its content can still be restored but not be proven. Bring the row file back from a copy and run `sendense-ctl verify backup ID --clear`; the next backup of this disk becomes a full by itself.',
  ),
  VERIFY_FAILED: data(
    '{bad} of {checked} restore points did not pass: {detail}',
    'All places stand in `sendense-ctl job show {job} -o json`. Restore from another point, start a new backup (damaged disks become fulls by themselves), and see "A damaged chain" in docs/operations.md.',
  ),
  NOTHING_TO_VERIFY: user(
    409,
    13,
    '{subject} has no restore points.',
    'Make one with `sendense-ctl backup start`.',
  ),
  VERIFY_BUSY: busy(
    'The restore points of "{vm}" are being verified by {holder}.',
    'Wait for it with `sendense-ctl job watch`, or stop it with `sendense-ctl job cancel`.',
  ),
  SEAL_FAILED: data(
    'The new layer {layer} did not pass its check: {detail}',
    'The backup was discarded, nothing older was touched. Start it again; if it happens again, check memory and storage.',
  ),
} as const satisfies Record<string, ErrorCodeEntry>;
