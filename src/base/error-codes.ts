/** Who has to act: the person who asked, the machine we run on, the stored bytes, or us. */
export type ErrorKind = 'user' | 'environment' | 'data' | 'bug';

export interface ErrorCodeEntry {
  readonly kind: ErrorKind;
  readonly http: number;
  /** Exit code of `sendense-ctl`, from the table in `docs/cli-json.md`. */
  readonly exit: number;
  /** True when the same request may succeed later without anybody changing it. */
  readonly retryable: boolean;
  /** What happened; `{name}` is replaced by the field of that name. */
  readonly text: string;
  /** The next command or action for the operator. */
  readonly hint: string;
}

const user = (http: number, exit: number, text: string, hint: string): ErrorCodeEntry => ({
  kind: 'user',
  http,
  exit,
  retryable: false,
  text,
  hint,
});
const busy = (text: string, hint: string): ErrorCodeEntry => ({
  kind: 'user',
  http: 409,
  exit: 11,
  retryable: true,
  text,
  hint,
});
const environment = (text: string, hint: string, retryable = true, http = 503): ErrorCodeEntry => ({
  kind: 'environment',
  http,
  exit: 21,
  retryable,
  text,
  hint,
});
const data = (text: string, hint: string): ErrorCodeEntry => ({
  kind: 'data',
  http: 422,
  exit: 20,
  retryable: false,
  text,
  hint,
});

/** The one table of everything that can go wrong. `docs/errors.md` is generated from it. */
export const errorCodes = {
  // what was asked
  REQUEST_INVALID: user(
    400,
    2,
    'The request is not valid: {detail}',
    'Correct the named field and send it again.',
  ),
  ROUTE_UNKNOWN: user(404, 10, 'There is no {method} {path}.', 'See /api/docs for the routes.'),
  CONFIG_INVALID: user(
    400,
    2,
    'The configuration is not valid: {detail}',
    'Correct the setting; `sendense-ctl config show --origin` lists the valid ones and where each value comes from.',
  ),
  VM_UNKNOWN: user(
    404,
    10,
    'No machine is called "{vm}".',
    'List the machines with `sendense-ctl vm list`, or add it with `sendense-ctl vm add`.',
  ),
  VM_EXISTS: user(
    409,
    13,
    'A machine called "{vm}" exists already.',
    'Pick another name, or change the existing one with `sendense-ctl vm set`.',
  ),
  VM_NOT_REGISTERED: user(
    409,
    13,
    'The machine "{vm}" is known only from its backups.',
    'Register it again with `sendense-ctl vm add {vm} --disk …`; its chains go on.',
  ),
  VM_HAS_BACKUPS: user(
    409,
    13,
    'The machine "{vm}" has {count} backups; removing it would orphan them.',
    'Delete the backups first, or remove only the registration with `sendense-ctl vm remove --keep-backups`.',
  ),
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
  DISK_UNKNOWN: user(
    404,
    10,
    '{subject} has no disk {disk}.',
    'See its disks with `sendense-ctl backup show` or `sendense-ctl vm show`.',
  ),
  JOB_UNKNOWN: user(404, 10, 'No job has the id "{job}".', 'List the jobs with `sendense-ctl job list`.'),
  JOB_FINISHED: user(409, 13, 'The job {job} is already {status}.', 'Nothing to cancel.'),
  REPOSITORY_UNKNOWN: user(
    404,
    10,
    'No repository is called "{repository}".',
    'List them with `sendense-ctl repository list`.',
  ),
  REPOSITORY_EXISTS: user(
    409,
    13,
    'The repository "{repository}" exists already: {detail}',
    'Pick another name or folder.',
  ),
  REPOSITORY_HAS_BACKUPS: user(
    409,
    13,
    'The repository "{repository}" holds {count} backups.',
    'Forget it all the same with `sendense-ctl repository remove {repository} --keep-backups`: the files stay, and `repository add` of the same folder brings them back.',
  ),
  REPOSITORY_BUILT_IN: user(
    409,
    13,
    'The repository "{repository}" belongs to the appliance and cannot be removed.',
    'Add another one with `sendense-ctl repository add` and name it with --repository.',
  ),
  MOUNT_UNKNOWN: user(
    404,
    10,
    'No mount has the id "{mount}".',
    'List the mounts with `sendense-ctl mount list`; idle ones are removed by themselves.',
  ),
  PATH_UNKNOWN: user(
    404,
    10,
    'The restore point has no "{path}".',
    'List a folder with `sendense-ctl mount files MOUNT_ID --path DIR`.',
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
  RANGE_INVALID: user(
    416,
    2,
    'The range "{range}" lies outside the file of {size} bytes.',
    'Ask for a range inside the file.',
  ),
  IDEMPOTENCY_MISMATCH: user(
    422,
    13,
    'The Idempotency-Key "{key}" was used for another request.',
    'Use a new key for a new request.',
  ),
  NOT_ALLOWED: user(403, 12, '{detail}', 'Ask an operator with the right to do it.'),

  // somebody else is at it
  VM_BUSY: busy(
    'The machine "{vm}" is busy with job {job}.',
    'Wait for it with `sendense-ctl job watch {job}`, or stop it with `sendense-ctl job cancel {job}`.',
  ),
  DISK_BUSY: busy(
    'The disk {path} is in use by {holder}.',
    'Wait until that is done: `sendense-ctl job list`.',
  ),
  BACKUP_BUSY: busy(
    'The backup {backup} is in use by {holder}.',
    'Wait until that is done, or remove the mount with `sendense-ctl mount remove`.',
  ),
  REPOSITORY_BUSY: busy(
    'The repository "{repository}" is in use by {holder}.',
    'Wait until that is done: `sendense-ctl job list`, `sendense-ctl mount list`.',
  ),
  MOUNT_BUSY: busy('The mount {mount} is in use: {detail}', 'Close the programs that use it and try again.'),
  IDEMPOTENCY_RUNNING: busy(
    'A request with the Idempotency-Key "{key}" is still running.',
    'Wait and send it again.',
  ),
  LIMIT_REACHED: {
    ...busy(
      'Too many {what} at once: the limit is {limit}.',
      'Wait until one ends, or raise the limit in the configuration.',
    ),
    http: 429,
  },

  // the machine's disks as a source
  SOURCE_MISSING: environment(
    'The disk {path} does not exist.',
    'Check the path, or change the machine with `sendense-ctl vm set`.',
    false,
    422,
  ),
  SOURCE_UNREADABLE: environment(
    'The disk {path} cannot be read: {detail}',
    'Check its permissions and the storage below it.',
    false,
    422,
  ),
  SOURCE_SIZE_INVALID: environment(
    'The disk {path} has a size of {size} bytes; it must be a multiple of 512 and not 0.',
    'Check that this is a disk image.',
    false,
    422,
  ),
  SOURCE_READ_FAILED: environment(
    'Reading the disk {path} failed at byte {offset}: {detail}',
    'Check the storage below the disk; the earlier restore points are untouched. Then start the backup again.',
  ),
  SOURCE_CHANGED_SIZE: environment(
    'The disk {path} changed its size during the backup.',
    'Start the backup again.',
  ),
  SOURCE_IN_USE: busy(
    'The image {path} is being written by another program: {detail}',
    'Stop the machine, or freeze it with --before/--after commands, then try again.',
  ),
  SOURCE_HEADER_REFUSED: data(
    'The qcow2 image {path} is refused: {detail}',
    'Do not trust this image. If its backing file is meant, allow the folder with `sendense-ctl vm set --allow-backing DIR`.',
  ),
  HOOK_FAILED: environment(
    'The {hook} command of "{vm}" failed: {detail}',
    'Run the command by hand to see why; no backup was made.',
    false,
    422,
  ),

  // the chain and the repository
  CHAIN_PARENT_MISSING: data(
    'The layer {layer} is missing from the chain.',
    'The next backup of this disk becomes a full by itself.',
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
  FORMAT_INVALID: data(
    'The file {path} is not valid: {detail}',
    'Restore the file from a copy; the backup it describes is not listed until then.',
  ),
  FORMAT_TOO_NEW: data(
    'The file {path} has format {format}; this version reads up to {supported}.',
    'Use the newer version that wrote it.',
  ),
  REPOSITORY_FULL: environment(
    'The repository {path} is full.',
    'Free space or delete old backups (`sendense-ctl backup delete`), then start the backup again.',
    true,
    507,
  ),
  REPOSITORY_UNAVAILABLE: environment(
    'The repository folder {path} cannot be used: {detail}',
    'Check that it is mounted and writable: `sendense-ctl repository test`.',
  ),
  DISK_FULL: environment(
    'No space is left for {path}.',
    'Free space on that file system and try again.',
    true,
    507,
  ),

  // the tools below us
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
  EXPORT_FAILED: environment(
    'The export {export} did not come up: {detail}',
    'See `sendense-ctl doctor` and the daemon log.',
  ),
  EXPORT_LOST: environment(
    'The connection to the export {export} was lost and did not come back: {detail}',
    'Start the backup again.',
  ),
  NBD_PROTOCOL: environment(
    'The NBD server at {endpoint} answered against the protocol: {detail}',
    'See the daemon log.',
  ),
  QMP_FAILED: environment('qemu-storage-daemon refused {command}: {detail}', 'See the daemon log.'),
  MOUNT_FAILED: environment(
    'The restore point cannot be mounted: {detail}',
    'Its disks can still be restored whole with `sendense-ctl restore disk`.',
    false,
    422,
  ),
  PRIVILEGE_MISSING: environment(
    '{what} needs root.',
    'Run the daemon as root, or restore whole disks with `sendense-ctl restore disk`.',
    false,
    422,
  ),
  DAEMON_RUNNING: environment(
    'Another daemon (pid {pid}) uses {home}.',
    'Stop it first, or use another --home.',
    false,
    409,
  ),
  DAEMON_UNREACHABLE: environment(
    'No daemon answers at {socket}: {detail}',
    'Start it with `sendensed --home DIR`, or name its home with --home DIR.',
  ),
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
  INTERNAL: {
    kind: 'bug',
    http: 500,
    exit: 1,
    retryable: false,
    text: 'An error in Sendense itself: {detail}',
    hint: 'Please report it with the daemon log.',
  },
} as const satisfies Record<string, ErrorCodeEntry>;

export type ErrorCode = keyof typeof errorCodes;
