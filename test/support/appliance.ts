import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ask } from './in-process-rest.ts';

const checkout = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
export const bin = (name: string): string => join(checkout, 'bin', name);
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

export interface CtlResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A daemon of its own in a home of its own, driven as an operator does. */
export class TestAppliance {
  readonly home: string;
  readonly logFile: string;
  #daemon: ChildProcess | null = null;
  readonly #isOwnHome: boolean;

  constructor(home?: string, logFile?: string) {
    this.#isOwnHome = home === undefined;
    this.home = home ?? mkdtempSync(join(tmpdir(), 'sd-'));
    this.logFile = logFile ?? join(this.home, 'daemon.log');
  }

  get pid(): number {
    return this.#daemon?.pid ?? 0;
  }

  async start(settings: readonly string[] = [], env: Readonly<Record<string, string>> = {}): Promise<void> {
    const log = openSync(this.logFile, 'a');
    const args = ['--home', this.home, ...settings.flatMap((setting) => ['--set', setting])];
    const clean = Object.fromEntries(
      Object.entries(process.env).filter(([name]) => !name.startsWith('SENDENSE_')),
    );
    this.#daemon = spawn(bin('sendensed'), args, { stdio: ['ignore', log, log], env: { ...clean, ...env } });
    closeSync(log);
    const socket = join(this.home, 'run', 'sendensed.sock');
    for (let round = 0; round < 2400; round += 1) {
      if (this.#daemon.exitCode !== null || this.#daemon.signalCode !== null)
        throw new Error(`the daemon ended: ${this.log()}`);
      // not by a command: each would take the processor from the daemon for a tenth of a second
      if (
        await ask(socket, 'GET', '/health').then(
          () => true,
          () => false,
        )
      )
        return;
      await sleep(20);
    }
    throw new Error(`the daemon did not start: ${this.log()}`);
  }

  log(): string {
    return readFileSync(this.logFile, 'utf8').slice(-4000);
  }

  /** Runs sendense-ctl to its end. */
  ctl(...args: string[]): CtlResult {
    const result = spawnSync(bin('sendense-ctl'), ['--home', this.home, ...args], {
      encoding: 'utf8',
      maxBuffer: 256 * 1024 * 1024,
      timeout: 300_000,
    });
    return { code: result.status ?? -1, stdout: result.stdout, stderr: result.stderr };
  }

  /** Like `ctl` with -o json; fails loudly. */
  json<T = Record<string, never>>(...args: string[]): T {
    const result = this.ctl(...args, '-o', 'json');
    if (result.code !== 0) throw new Error(`sendense-ctl ${args.join(' ')}: ${result.stderr}`);
    return JSON.parse(result.stdout) as T;
  }

  /** Starts a command and leaves it running. */
  spawnCtl(...args: string[]): ChildProcess {
    return spawn(bin('sendense-ctl'), ['--home', this.home, ...args], { stdio: 'ignore' });
  }

  /** As `spawnCtl`, with what it says on pipes. */
  spawnCtlPiped(...args: string[]): ChildProcess {
    return spawn(bin('sendense-ctl'), ['--home', this.home, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  }

  /** A raw REST request over the socket, by curl: a client that is not ours. */
  rest(
    method: string,
    path: string,
    body?: unknown,
    headers: readonly string[] = [],
  ): { status: number; body: string } {
    const args = [
      '-s',
      '-g',
      '--path-as-is',
      '--unix-socket',
      join(this.home, 'run', 'sendensed.sock'),
      '-X',
      method,
      '-w',
      '\n%{http_code}',
      ...headers.flatMap((header) => ['-H', header]),
    ];
    if (body !== undefined)
      args.push(
        '-H',
        'Content-Type: application/json',
        '--data-binary',
        typeof body === 'string' ? body : JSON.stringify(body),
      );
    const result = spawnSync('curl', [...args, `http://d${path}`], {
      encoding: 'utf8',
      maxBuffer: 64 * 1024 * 1024,
    });
    const cut = result.stdout.lastIndexOf('\n');
    return { status: Number(result.stdout.slice(cut + 1)), body: result.stdout.slice(0, cut) };
  }

  /** @throws when it still runs after 30 s */
  async ended(): Promise<void> {
    const daemon = this.#daemon;
    if (!daemon || daemon.exitCode !== null || daemon.signalCode !== null) return;
    await new Promise<void>((resolve, reject) => {
      const late = () => reject(new Error(`the daemon does not end: ${this.log()}`));
      const timer = setTimeout(late, 30_000);
      daemon.once('exit', () => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  async kill(): Promise<void> {
    this.#daemon?.kill('SIGKILL');
    await this.ended();
  }

  async stop(): Promise<void> {
    this.#daemon?.kill('SIGTERM');
    await this.ended();
  }

  /** Stops the daemon however it is and removes the home; cleans up after a killed one by starting it once more. */
  async dispose(): Promise<void> {
    const wasKilled = this.#daemon?.signalCode === 'SIGKILL';
    if (wasKilled) await this.start().catch(() => undefined);
    await this.stop();
    if (this.#isOwnHome) rmSync(this.home, { recursive: true, force: true });
  }

  /** Pids of this home's nbd-server parents and children, storage daemons and movers; never the daemon itself. */
  processes(part: string): number[] {
    // the daemon marks its children so; a mover names the home nowhere else
    const owner = createHash('sha256').update(this.home).digest('hex').slice(0, 32);
    return readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .map(Number)
      .filter((pid) => {
        if (pid === this.pid) return false;
        try {
          const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
          const environment = readFileSync(`/proc/${pid}/environ`, 'utf8');
          return (
            command.includes(part) &&
            [command, environment].some((text) => text.includes(this.home) || text.includes(owner))
          );
        } catch {
          return false;
        }
      });
  }

  /** Mounts and loop devices that belong to this home: must be none after a stop. */
  leftovers(): string[] {
    const mounts = readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .filter((line) => line.includes(this.home));
    const loops = spawnSync('losetup', ['-l', '-n'], { encoding: 'utf8' })
      .stdout.split('\n')
      .filter((line) => line.includes(this.home));
    return [
      ...mounts,
      ...loops,
      ...this.processes('qemu-storage-daemon').map((pid) => `qsd ${pid}`),
      ...this.processes('nbd-server').map((pid) => `nbd ${pid}`),
    ];
  }
}
