import { busy, data, type ErrorCodeEntry, environment, user } from './entry.ts';

/** Repositories and the files in them. */
export const repositoryCodes = {
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
  REPOSITORY_IS_COPY: user(
    409,
    13,
    '{path} is the repository "{repository}" of {root}, or a copy of it.',
    'Both cannot be listed, since their backups have the same ids. To use this one instead, forget the other with `sendense-ctl repository remove {repository} --keep-backups` and attach this one again.',
  ),
  ORPHANS_CHANGED: user(
    409,
    13,
    'The orphans of "{repository}" are not those of the plan {plan} any more.',
    'Nothing was removed. Look again with `sendense-ctl repository orphans {repository}`.',
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
  REPOSITORY_BUSY: busy(
    'The repository "{repository}" is in use by {holder}.',
    'Wait until that is done: `sendense-ctl job list`, `sendense-ctl mount list`.',
  ),
  REPOSITORY_IN_USE: environment(
    'The repository {path} is used by another daemon: pid {pid} on {host}, home {home}, since {since}.',
    'One repository belongs to one daemon at a time. Stop that daemon, or let go of the repository there with `sendense-ctl repository detach NAME`.',
    true,
    409,
  ),
  REPOSITORY_FULL: environment(
    'The repository {path} is full: {detail}.',
    'See what retention would free with `sendense-ctl prune plan`, or delete old backups with `sendense-ctl backup delete`; deleting works on a full repository too. Then start it again.',
    true,
    507,
  ),
  REPOSITORY_UNAVAILABLE: environment(
    'The repository folder {path} cannot be used: {detail}',
    'Mount its file system (see `findmnt` and the kernel log). It is opened again by itself within seconds, nothing needs a restart; `sendense-ctl repository list` shows its state.',
  ),
  CATALOG_DAMAGED: data(
    'The catalogue {path} is damaged: {detail}',
    'No backup is lost, they are in the repositories. With the daemon stopped, move {path} and what begins with its name away, start the daemon, then go on with docs/disaster-recovery.md, "The catalogue is damaged".',
  ),
  FORMAT_INVALID: data(
    'The file {path} is not valid: {detail}',
    'Restore the file from a copy; the backup it describes is not listed until then.',
  ),
  FORMAT_TOO_NEW: data(
    'The file {path} has format {format}; this version reads up to {supported}.',
    'Use the newer version that wrote it.',
  ),
} as const satisfies Record<string, ErrorCodeEntry>;
