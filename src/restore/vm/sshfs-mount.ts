import { once } from 'node:events';
import { connect } from 'node:net';
import { run } from '../../base/process/run.ts';
import { type RunningDaemon, startDaemon } from '../../base/process/start-daemon.ts';
import { readMountTable } from '../../mountd/privileged/mount-table.ts';

/** What is in the VM never changes: what the kernel knows, it need not ask again. It forgets when memory is short. */
const CACHE_SECONDS = 24 * 3600;
/** sshfs itself never forgets before the time is up; long enough for the questions that follow a listing. */
const LISTING_SECONDS = 60;
const MOUNT_TIMEOUT_MS = 60_000;

/** In `mount(8)` and the mount table. */
const SOURCE = 'sendense';

export interface SshfsRequest {
  /** QEMU's end of the port that the VM's file server is at. */
  readonly filesSocket: string;
  readonly mountPath: string;
  readonly logFile: string;
}

/**
 * Shows the files of a VM at a folder. The bytes go from QEMU's socket to sshfs and never through this process.
 * @throws TOOL_MISSING, TOOL_FAILED, TOOL_TIMEOUT when the VM does not answer
 */
export async function mountBySshfs(request: SshfsRequest): Promise<RunningDaemon> {
  const options = [
    ...['passive', 'ro', 'nosuid', 'nodev', 'noexec', `fsname=${SOURCE}`, 'kernel_cache'],
    ...(await offeredOptions()),
    ...[
      `entry_timeout=${CACHE_SECONDS}`,
      `attr_timeout=${CACHE_SECONDS}`,
      `dcache_timeout=${LISTING_SECONDS}`,
    ],
  ];
  const connection = connect({ path: request.filesSocket });
  await once(connection, 'connect');
  return await startDaemon('sshfs', ['-f', `${SOURCE}:/guest`, request.mountPath, '-o', options.join(',')], {
    connection,
    logFile: request.logFile,
    readyTimeoutMs: MOUNT_TIMEOUT_MS,
    // the mount table, not the mount: looking into it would wait for the VM in a thread of ours
    readyWhen: async () =>
      (await readMountTable()).some(({ mountPoint }) => mountPoint === request.mountPath),
  });
}

/** Options that only newer versions have, which want them. */
const newerOptions = [
  // symlinks are shown as they are and never followed by the host; otherwise those that lead out are hidden
  'no_contain_symlinks',
  // closing a file that was only read asks nobody, and so does not fail when the VM is gone
  'no_rofd_flush',
];
let offered: Promise<readonly string[]> | null = null;

function offeredOptions(): Promise<readonly string[]> {
  offered ??= run('sshfs', ['--help'], { okExitCodes: [0, 1] }).then(({ stdout, stderr }) =>
    newerOptions.filter((option) => (stdout + stderr).includes(option)),
  );
  // a tool that is installed later is asked again
  offered.catch(() => {
    offered = null;
  });
  return offered;
}
