import { type ErrorCodeEntry, environment } from './entry.ts';

/** The daemon itself and the programs below it. */
export const toolCodes = {
  DAEMON_UNREACHABLE: environment(
    'No daemon answers at {socket}: {detail}',
    'Start it with `sendensed --home DIR`, or name its home with --home DIR.',
  ),
  DAEMON_RUNNING: environment(
    'Another daemon (pid {pid}) uses {home}.',
    'Stop it first, or use another --home.',
    false,
    409,
  ),
  PRIVILEGE_MISSING: environment(
    '{what} needs root.',
    'Run the daemon as root, or restore whole disks with `sendense-ctl restore disk`.',
    false,
    422,
  ),
  MOUNTD_UNREACHABLE: environment(
    'No sendense-mountd answers at {socket}: {detail}',
    'Start it with `sendense-mountd --home DIR`; a daemon that runs as root starts its own.',
  ),
  MOUNTD_REFUSED: environment(
    'sendense-mountd refused: {detail}',
    'Its folders are set when it is started; see `sendense-mountd --help`.',
    false,
    422,
  ),
  TOOL_MISSING: environment('The program {tool} is not installed.', 'Install it: {install}', false),
  TOOL_FAILED: environment('{tool} failed ({outcome}): {detail}', 'See the daemon log for the whole output.'),
  TOOL_TIMEOUT: {
    ...environment(
      '{tool} did not finish within {seconds} s.',
      'Check the load and the storage of this machine.',
    ),
    exit: 124,
    http: 504,
  },
  MOVER_DIED: environment(
    'The process that reads the disk ended without a result: {detail}',
    'Nothing was published; start the backup again. If it happens again, look for the OOM killer in the kernel log.',
  ),
  EXPORT_FAILED: environment(
    'The export {export} did not come up: {detail}',
    'See `sendense-ctl doctor` and the daemon log.',
  ),
  EXPORT_LOST: environment(
    'The connection to the export {export} was lost and did not come back: {detail}',
    'Start it again.',
  ),
  NBD_PROTOCOL: environment(
    'The NBD server at {endpoint} answered against the protocol: {detail}',
    'See the daemon log.',
  ),
  FUSE_UNAVAILABLE: environment(
    'A disk cannot be shown as a FUSE file: {why}.',
    'Next: {action}. Whole disks can be restored without it: `sendense-ctl restore disk`.',
    false,
    422,
  ),
  QMP_FAILED: environment('qemu-storage-daemon refused {command}: {detail}', 'See the daemon log.'),
  INTERNAL: {
    kind: 'bug',
    http: 500,
    exit: 1,
    retryable: false,
    text: 'An error in Sendense itself: {detail}',
    hint: 'Please report it with the daemon log.',
  },
} as const satisfies Record<string, ErrorCodeEntry>;
