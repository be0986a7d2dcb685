import { createHash } from 'node:crypto';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from '../../base/logger.ts';
import { isAlive, kill } from '../../base/process/owned-processes.ts';
import { run } from '../../base/process/run.ts';
import { type RunningDaemon, startDaemon } from '../../base/process/start-daemon.ts';
import { messageOf, SendenseError } from '../../base/sendense-error.ts';
import type { Agent } from '../../catalog/agents.ts';
import { readIfThere, writeSecretFile } from '../identity/secret-file.ts';
import type { AgentWay } from '../protocol/calls.ts';

/** sshd starts itself anew for each connection and insists on its own full path. */
const SSHD = '/usr/sbin/sshd';
/** The user for who came without one being set up. */
const DEDICATED_USER = 'sendense-tunnel';
const RESTART_DELAY_MS = 1_000;

interface Permit {
  readonly sshPublicKey: string;
  readonly port: number;
}

interface SshServerDeps {
  readonly logger: Logger;
  /** `host:port` */
  readonly listen: string;
  /** `auto` or a name. */
  readonly user: string;
  /** For the host key, which agents are told over their control connection. */
  readonly stateFolder: string;
  readonly runFolder: string;
}

/**
 * An sshd of the appliance's own, for the way `ssh`: no shell, no command, no port but those of the transfers that run.
 * Which key may reach which port is asked for each login, so that a permission ends with its transfer.
 */
export class SshServer {
  readonly #deps: SshServerDeps;
  readonly #permits = new Map<string, Permit>();
  readonly #keysFile: string;
  readonly #logFile: string;
  readonly #pidFile: string;
  readonly #port: number;
  readonly #user: string;
  #hostKey = '';
  #isStopping = false;
  #daemon: RunningDaemon | null = null;
  #writing: Promise<void> = Promise.resolve();

  private constructor(deps: SshServerDeps, user: string) {
    this.#deps = deps;
    this.#keysFile = join(deps.runFolder, 'ssh-keys');
    this.#logFile = join(deps.runFolder, 'sshd.log');
    this.#pidFile = join(deps.runFolder, 'sshd.pid');
    this.#port = Number(deps.listen.slice(deps.listen.lastIndexOf(':') + 1));
    this.#user = user;
  }

  /** @throws TOOL_MISSING, TOOL_FAILED, CONFIG_INVALID */
  static async start(deps: SshServerDeps): Promise<SshServer> {
    const server = new SshServer(deps, await tunnelUser(deps.user));
    await server.#launch();
    return server;
  }

  /** Lets the agent's key reach this port of the loopback, and nothing else. */
  async permit(id: string, agent: Agent, port: number): Promise<AgentWay & { kind: 'ssh' }> {
    this.#permits.set(id, { sshPublicKey: agent.sshPublicKey, port });
    await this.#writeKeys();
    return { kind: 'ssh', sshPort: this.#port, user: this.#user, hostKey: this.#hostKey, port };
  }

  /** Ends that, and the tunnels of an agent that has no other permission. */
  async forbid(id: string): Promise<void> {
    const permit = this.#permits.get(id);
    this.#permits.delete(id);
    await this.#writeKeys();
    if (permit && ![...this.#permits.values()].some((other) => other.sshPublicKey === permit.sshPublicKey))
      await this.#endTunnels(permit.sshPublicKey);
  }

  async stop(): Promise<void> {
    this.#isStopping = true;
    await this.#daemon?.stop();
  }

  async #launch(): Promise<void> {
    const { runFolder, stateFolder } = this.#deps;
    await mkdir(runFolder, { recursive: true, mode: 0o750 });
    const keyFile = join(stateFolder, 'ssh-host.key');
    if ((await readIfThere(keyFile)) === null)
      await run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', '', '-f', keyFile]);
    this.#hostKey = (await readFile(`${keyFile}.pub`, 'utf8')).trim().split(' ').slice(0, 2).join(' ');
    await this.#writeKeys();
    await rm(this.#logFile, { force: true });
    const config = join(runFolder, 'sshd.conf');
    await writeFile(config, this.#config(keyFile), { mode: 0o640 });
    // sshd as root gives up privileges in there, and no package may have made it
    if (process.getuid?.() === 0) await mkdir('/run/sshd', { recursive: true, mode: 0o755 });
    await this.#run(config);
  }

  async #run(config: string): Promise<void> {
    const { listen } = this.#deps;
    const host = listen.slice(0, listen.lastIndexOf(':')).replace(/^\[|\]$/g, '');
    await this.#endOld(config);
    const daemon = await startDaemon(SSHD, ['-D', '-e', '-f', config], {
      logFile: this.#logFile,
      // somebody else may answer at this port; the file is written by who listens
      readyWhen: async () =>
        (await readIfThere(this.#pidFile)) !== null &&
        (await answers(host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host, this.#port)),
    });
    this.#daemon = daemon;
    void daemon.exited.then((outcome) => this.#again(config, outcome));
  }

  /** That of a daemon that was killed: sshd writes its title over the environment by which others are found. */
  async #endOld(config: string): Promise<void> {
    const pid = Number((await readIfThere(this.#pidFile))?.trim());
    await rm(this.#pidFile, { force: true });
    const title = pid > 1 ? await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '') : '';
    if (!title.includes('sshd') || !title.includes(config)) return;
    kill(pid, 'SIGTERM');
    for (let round = 0; round < 200 && (await isAlive(pid)); round += 1) await sleep(10);
  }

  /** Tunnels outlive the process that listens; new ones need it. */
  async #again(config: string, outcome: string): Promise<void> {
    while (!this.#isStopping) {
      this.#deps.logger.error({ outcome }, 'the sshd for agents ended; starting it again');
      await sleep(RESTART_DELAY_MS);
      try {
        await this.#run(config);
        return;
      } catch (error) {
        this.#deps.logger.error({ error: messageOf(error) }, 'the sshd for agents does not start');
      }
    }
  }

  #config(keyFile: string): string {
    const own = userInfo().username;
    const settings: Record<string, string> = {
      ListenAddress: this.#deps.listen,
      HostKey: quoted(keyFile),
      PidFile: quoted(this.#pidFile),
      UsePAM: 'no',
      AllowUsers: this.#user,
      PermitRootLogin: this.#user === 'root' ? 'prohibit-password' : 'no',
      PasswordAuthentication: 'no',
      KbdInteractiveAuthentication: 'no',
      PubkeyAuthentication: 'yes',
      AuthorizedKeysFile: 'none',
      // a program of the system's: sshd runs none whose folder others may write to
      AuthorizedKeysCommand: `/usr/bin/cat ${quoted(this.#keysFile)}`,
      AuthorizedKeysCommandUser: own,
      ForceCommand: '/bin/false',
      PermitTTY: 'no',
      MaxSessions: '0',
      AllowTcpForwarding: 'local',
      AllowStreamLocalForwarding: 'no',
      AllowAgentForwarding: 'no',
      X11Forwarding: 'no',
      PermitTunnel: 'no',
      PermitUserRC: 'no',
      GatewayPorts: 'no',
      Compression: 'no',
      Ciphers: 'aes128-gcm@openssh.com,aes256-gcm@openssh.com',
      ClientAliveInterval: '15',
      ClientAliveCountMax: '3',
      LoginGraceTime: '20',
      MaxAuthTries: '2',
      MaxStartups: '20:30:100',
      // says which key came from where
      LogLevel: 'VERBOSE',
    };
    return `${Object.entries(settings)
      .map(([name, value]) => `${name} ${value}`)
      .join('\n')}\n`;
  }

  /** One line for each key: sshd takes the first that fits. */
  #writeKeys(): Promise<void> {
    this.#writing = this.#writing.then(async () => {
      const byKey = Map.groupBy(this.#permits.values(), ({ sshPublicKey }) => sshPublicKey);
      const lines = [...byKey].map(([key, permits]) => {
        const ports = permits.map(({ port }) => `permitopen="127.0.0.1:${port}"`).join(',');
        return `restrict,port-forwarding,permitlisten="127.0.0.1:1",${ports} ${key}\n`;
      });
      await writeSecretFile(this.#keysFile, lines.join(''));
    });
    return this.#writing;
  }

  /** sshd's log says from where a key came, and the kernel which process serves that connection. */
  async #endTunnels(sshPublicKey: string): Promise<void> {
    const blob = Buffer.from(sshPublicKey.split(' ')[1] ?? '', 'base64');
    const print = createHash('sha256').update(blob).digest('base64').replace(/=+$/, '');
    const log = await readFile(this.#logFile, 'utf8').catch(() => '');
    const peers = new Set(
      [...log.matchAll(/Accepted publickey for \S+ from \S+ port (\d+) ssh2: ED25519 SHA256:(\S+)/g)]
        .filter((match) => match[2] === print)
        .map((match) => match[1]),
    );
    const { stdout } = await run('ss', ['-Htnp', 'state', 'established', `sport = :${this.#port}`]);
    for (const line of stdout.split('\n')) {
      const [, , , peer = ''] = line.trim().split(/\s+/);
      if (!peers.has(peer.slice(peer.lastIndexOf(':') + 1))) continue;
      for (const match of line.matchAll(/"sshd[^"]*",pid=(\d+)/g)) kill(Number(match[1]), 'SIGKILL');
    }
  }
}

/** sshd's own quoting. */
function quoted(path: string): string {
  if (path.includes('"') || path.includes('\n'))
    throw new SendenseError('CONFIG_INVALID', {
      detail: `${JSON.stringify(path)} cannot stand in sshd's settings`,
    });
  return `"${path}"`;
}

/** Who is logged in as: a user that can do nothing; without root only the daemon's own. */
async function tunnelUser(wanted: string): Promise<string> {
  if (wanted !== 'auto') return wanted;
  if (process.getuid?.() !== 0) return userInfo().username;
  const users = await readFile('/etc/passwd', 'utf8');
  return users.split('\n').some((line) => line.startsWith(`${DEDICATED_USER}:`)) ? DEDICATED_USER : 'nobody';
}

function answers(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    socket.once('data', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
    socket.setTimeout(2_000, () => {
      socket.destroy();
      resolve(false);
    });
  });
}
