import { isAtLeast, type ToolVersions, versionText } from '../../qemu/tool-versions.ts';
import { type Finding, failed, ok, warn } from './finding.ts';

export interface ToolState {
  readonly versions: ToolVersions;
  /** False: the layers are written without nbd-server. */
  readonly needsNbdServer: boolean;
  /** False while they are being started. */
  readonly areStarted: boolean;
  readonly nbdServerPid: number | null;
  readonly storageDaemonPid: number | null;
  readonly storageDaemonLog: string;
}

/** The programs that every backup goes through, and whether they run. */
export function checkTools(state: ToolState): Finding[] {
  const { versions, needsNbdServer, storageDaemonPid, nbdServerPid } = state;
  const runs = (check: string, pid: number | null, next: string): Finding => {
    if (pid !== null) return ok(check, `pid ${pid}`);
    return state.areStarted
      ? failed(check, 'no process', next)
      : warn(check, 'not started yet', 'Ask again in a few seconds.');
  };
  const qemu =
    versions.qemu === null
      ? failed(
          'qemu',
          'missing',
          'apt-get install qemu-utils qemu-system-common, then start the daemon again',
        )
      : ok('qemu', versionText(versions.qemu));
  const daemon = runs('storage daemon runs', storageDaemonPid, `See ${state.storageDaemonLog}.`);
  if (!needsNbdServer)
    return [qemu, daemon, ok('nbd-server', 'not needed with exports.backend=storage-daemon')];
  return [
    qemu,
    daemon,
    checkNbdServer(versions),
    runs(
      'nbd-server runs',
      nbdServerPid,
      'Look for *.conf.broken in conf.d and for nbd-server in the system log.',
    ),
  ];
}

function checkNbdServer({ nbdServer }: ToolVersions): Finding {
  const check = 'nbd-server';
  if (nbdServer === null)
    return failed(check, 'missing', 'apt-get install nbd-server, or set exports.backend=storage-daemon');
  const note = isAtLeast(nbdServer, [3, 25])
    ? ''
    : ': its parent is replaced at every new export (a known fault before 3.25)';
  return ok(check, versionText(nbdServer) + note);
}
