import { busy, type ErrorCodeEntry, environment, user } from './entry.ts';

/** Mounts, paths inside them, and what is written out. */
export const restoreCodes = {
  MOUNT_UNKNOWN: user(
    404,
    10,
    'No mount has the id "{mount}".',
    'List the mounts with `sendense-ctl mount list`; idle ones are removed by themselves.',
  ),
  MOUNT_BUSY: busy('The mount {mount} is in use: {detail}', 'Close the programs that use it and try again.'),
  MOUNT_FAILED: environment(
    'The restore point cannot be mounted: {detail}',
    'Its disks can still be restored whole with `sendense-ctl restore disk`.',
    false,
    422,
  ),
  VM_UNAVAILABLE: environment(
    'Guests cannot be mounted in a VM here: {detail}.',
    'Run: {action}',
    false,
    422,
  ),
  VM_FAILED: environment(
    'The VM that mounts the restore point failed: {detail}',
    'Try again; see the daemon log. Its disks can still be restored whole with `sendense-ctl restore disk`.',
  ),
  PATH_UNKNOWN: user(
    404,
    10,
    'The restore point has no "{path}".',
    'See what is there: `sendense-ctl backup mount --backup-id ID`, then `sendense-ctl mount files MOUNT_ID --path {folder}`.',
  ),
  PATH_AMBIGUOUS: user(
    409,
    13,
    '"{path}" exists on several file systems: {candidates}',
    'Name one of them, as in {example}.',
  ),
  PATH_INVALID: user(
    400,
    2,
    'The path "{path}" cannot be used: {detail}',
    'Give the absolute path of a file or folder.',
  ),
  PATH_WRONG_TYPE: user(
    409,
    13,
    '"{path}" is {actual}, not {expected}.',
    'Only files and folders can be downloaded.',
  ),
  RANGE_INVALID: user(
    416,
    2,
    'The range "{range}" lies outside the file of {size} bytes.',
    'Ask for a range inside the file.',
  ),
  OUTPUT_EXISTS: user(
    409,
    13,
    'The output "{path}" exists already.',
    'Pick another name, or overwrite it with --force.',
  ),
  OUTPUT_INVALID: user(
    400,
    2,
    'The output "{path}" cannot be used: {detail}',
    'Give the absolute path of a new file in an existing folder.',
  ),
  DISK_FULL: environment(
    'No space is left for {path}.',
    'Free space on that file system and try again.',
    true,
    507,
  ),
} as const satisfies Record<string, ErrorCodeEntry>;
