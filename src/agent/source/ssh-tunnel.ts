import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type RunningDaemon, startDaemon } from '../../base/process/start-daemon.ts';
import { messageOf, SendenseError } from '../../base/sendense-error.ts';
import type { AgentWay } from '../protocol/calls.ts';

const READY_TIMEOUT_MS = 20_000;

interface TunnelOrder {
  /** The appliance, as the agent reaches it. */
  readonly host: string;
  readonly way: AgentWay & { kind: 'ssh' };
  readonly keyFile: string;
  /** Of this transfer alone; the agent's end of the tunnel is a socket in here, for nobody else. */
  readonly folder: string;
}

export interface Tunnel extends AsyncDisposable {
  readonly socketPath: string;
  readonly exited: Promise<string>;
}

/**
 * One ssh for one transfer, to one port of the appliance's loopback. The host key came over the control connection, so
 * nothing is trusted at first sight.
 * @throws TUNNEL_FAILED, TOOL_MISSING
 */
export async function openTunnel({ host, way, keyFile, folder }: TunnelOrder): Promise<Tunnel> {
  const socketPath = join(folder, 'tunnel.sock');
  const knownHosts = join(folder, 'known_hosts');
  const logFile = join(folder, 'ssh.log');
  await writeFile(knownHosts, `appliance ${way.hostKey}\n`, { mode: 0o600 });
  const options = {
    BatchMode: 'yes',
    IdentitiesOnly: 'yes',
    IdentityFile: quoted(keyFile),
    UserKnownHostsFile: quoted(knownHosts),
    GlobalKnownHostsFile: '/dev/null',
    HostKeyAlias: 'appliance',
    HostKeyAlgorithms: 'ssh-ed25519',
    StrictHostKeyChecking: 'yes',
    ExitOnForwardFailure: 'yes',
    StreamLocalBindMask: '0177',
    StreamLocalBindUnlink: 'yes',
    ServerAliveInterval: '15',
    ServerAliveCountMax: '3',
    ConnectTimeout: '15',
    Compression: 'no',
    ControlMaster: 'no',
    ControlPath: 'none',
    // a third of the default cipher's CPU time on processors with AES (measured)
    Ciphers: 'aes128-gcm@openssh.com,aes256-gcm@openssh.com',
    RequestTTY: 'no',
    SessionType: 'none',
  };
  const args = [
    // no settings of this user or host may change what was promised
    ...['-F', 'none'],
    ...Object.entries(options).flatMap(([name, value]) => ['-o', `${name}=${value}`]),
    ...['-p', String(way.sshPort), '-l', way.user, '-L', `${socketPath}:127.0.0.1:${way.port}`, host],
  ];
  let daemon: RunningDaemon;
  try {
    daemon = await startDaemon('ssh', args, {
      logFile,
      readyWhen: async () => existsSync(socketPath),
      readyTimeoutMs: READY_TIMEOUT_MS,
    });
  } catch (error) {
    if (error instanceof SendenseError && error.code === 'TOOL_MISSING') throw error;
    const address = `${host}:${way.sshPort}`;
    throw new SendenseError('TUNNEL_FAILED', { address, detail: messageOf(error) }, error);
  }
  return { socketPath, exited: daemon.exited, [Symbol.asyncDispose]: () => daemon.stop() };
}

/** ssh splits values at blanks. */
const quoted = (path: string): string => `"${path}"`;
