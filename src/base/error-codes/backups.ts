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
    'Delete those first, or all at once with --cascade.',
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
  SEAL_FAILED: data(
    'The new layer {layer} did not pass its check: {detail}',
    'The backup was discarded, nothing older was touched. Start it again; if it happens again, check memory and storage.',
  ),
} as const satisfies Record<string, ErrorCodeEntry>;
