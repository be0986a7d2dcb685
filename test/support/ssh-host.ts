import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { sh } from './guest-disk.ts';

/** A real sshd on a port of the loopback address, to which only a key of its own can log in. */
export class SshHost {
  readonly folder = mkdtempSync(join(tmpdir(), 'sd-ssh-'));
  readonly keyFile = join(this.folder, 'key');
  port = 0;
  #daemon: ChildProcess | null = null;

  async start(): Promise<void> {
    for (const key of ['key', 'host'])
      sh('ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', join(this.folder, key));
    writeFileSync(join(this.folder, 'authorized_keys'), readFileSync(`${this.keyFile}.pub`), { mode: 0o600 });
    this.port = await freePort();
    const settings = [
      `Port ${this.port}`,
      'ListenAddress 127.0.0.1',
      `HostKey ${join(this.folder, 'host')}`,
      `AuthorizedKeysFile ${join(this.folder, 'authorized_keys')}`,
      'PermitRootLogin yes',
      'StrictModes no',
      'UsePAM no',
      'PasswordAuthentication no',
      'AllowStreamLocalForwarding yes',
      'MaxStartups 100:30:200',
      'MaxSessions 100',
      `PidFile ${join(this.folder, 'sshd.pid')}`,
    ];
    writeFileSync(join(this.folder, 'sshd_config'), `${settings.join('\n')}\n`);
    // sshd wants this folder, which a machine without systemd may lack
    execFileSync('mkdir', ['-p', '/run/sshd']);
    const args = ['-D', '-e', '-f', join(this.folder, 'sshd_config')];
    this.#daemon = spawn('/usr/sbin/sshd', args, { stdio: 'ignore' });
    for (let round = 0; round < 200; round += 1) {
      try {
        sh('ssh', ...this.login(), 'true');
        return;
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    }
    throw new Error('sshd does not answer');
  }

  login(): string[] {
    const unknown = [
      '-o',
      'StrictHostKeyChecking=no',
      '-o',
      'UserKnownHostsFile=/dev/null',
      '-o',
      'LogLevel=ERROR',
    ];
    return ['-i', this.keyFile, '-p', String(this.port), ...unknown, '-l', userInfo().username, '127.0.0.1'];
  }

  /** For a libvirt of this machine behind its socket. */
  uri(socket: string): string {
    const query = `socket=${socket}&keyfile=${this.keyFile}&no_verify=1&proxy=netcat`;
    return `qemu+ssh://${userInfo().username}@127.0.0.1:${this.port}/session?${query}`;
  }

  async dispose(): Promise<void> {
    const daemon = this.#daemon;
    if (daemon && daemon.exitCode === null) {
      const ended = new Promise((resolve) => daemon.once('exit', resolve));
      daemon.kill('SIGTERM');
      await ended;
    }
    rmSync(this.folder, { recursive: true, force: true });
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return typeof address === 'object' && address !== null ? address.port : 0;
}
