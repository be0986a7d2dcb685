import { busy, data, type ErrorCodeEntry, environment, user } from './entry.ts';

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
  OUTPUT_TOO_SMALL: user(
    409,
    13,
    '"{path}" has {size} bytes, the disk needs {needed}.',
    'Take a target of at least that size.',
  ),
  OUTPUT_IN_USE: busy('"{path}" is in use: {detail}', 'Unmount it and stop what uses it, then try again.'),
  OUTPUT_SPACE: environment(
    'The disk needs {needed} in {path}, {available} are free.',
    'Free space there, or restore to another file system.',
    true,
    507,
  ),
  OUTPUT_UNCONFIRMED: user(
    409,
    13,
    '"{path}" would be overwritten. There is now: {contents}',
    'If that may go: --yes --confirm-device {path}',
  ),
  LIVE_UNKNOWN: user(
    404,
    10,
    'No live export has the id "{live}".',
    'List them with `sendense-ctl restore live list`; expired ones are removed by themselves.',
  ),
  LIVE_BUSY: busy(
    'The live export {live} is in use: {detail}',
    'Disconnect its clients and try again, or cut them off with --disconnect.',
  ),
  LIVE_READ_ONLY: user(
    409,
    13,
    'The live export {live} is read-only: there is nothing in it that the backup has not.',
    'Write the disk out with `sendense-ctl restore disk --backup-id {backup} --output FILE`.',
  ),
  BOOT_TEST_FAILED: data(
    'The restore point {backup} does not come up: {reason}.',
    'See what it showed: `sendense-ctl restore tests --backup-id {backup}`.',
  ),
  BOOT_TEST_BROKEN: environment(
    'The test of {backup} could not be carried out: {detail}',
    'This says nothing of the restore point. See the daemon log and try again.',
  ),
  BOOT_TEST_IMPOSSIBLE: user(400, 2, 'It cannot be booted like this: {detail}.', 'Try: {action}'),
  BOOT_TEST_UNKNOWN: user(
    404,
    10,
    'There is no "{file}" of a boot test of {backup}.',
    'See what there is: `sendense-ctl restore tests --backup-id {backup}`.',
  ),
  NO_CONFIGURATION: user(
    409,
    13,
    'The restore point {backup} has disks only: its source knows nothing of the machine itself.',
    'Restore its disks into a folder with `sendense-ctl restore vm --backup-id {backup} --output DIR`.',
  ),
  MACHINE_NOT_SUPPORTED: environment(
    'This libvirt cannot run the machine type {machine} ({arch}, {virt_type}): {detail}.',
    'Restore it to a host with a QEMU that knows it, or its disks alone with --output DIR and without --to-libvirt.',
    false,
    422,
  ),
  DOMAIN_EXISTS: user(
    409,
    13,
    'libvirt has a domain {domain} already.',
    'Give the restored machine another name with --name.',
  ),
  INSTANT_IMPOSSIBLE: user(
    422,
    2,
    'An instant restore is not possible here: {detail}.',
    'Leave --instant out: the disks are then written first.',
  ),
  PULL_FAILED: environment(
    'The machine {domain} runs, but its disk {disk} could not take in what it still reads from the backup.',
    'Look at its log in /var/log/libvirt/qemu, then restore it again without --instant.',
  ),
  RESUME_NOTHING: user(
    409,
    13,
    'There is no interrupted restore of this disk to "{target}" to go on with.',
    'Leave --resume out to begin anew.',
  ),
  TARGET_FAILED: environment(
    'The target {target} cannot be read or written: {detail}',
    'Look at the device or server. What was written is neither the old disk nor the new one; give the same command again.',
  ),
  DISK_FULL: environment(
    'No space is left for {path}.',
    'Free space on that file system and try again.',
    true,
    507,
  ),
} as const satisfies Record<string, ErrorCodeEntry>;
