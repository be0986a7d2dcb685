import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { bin, type TestAppliance } from './appliance.ts';
import { until } from './operator.ts';

/** A port that nobody uses at the moment. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen({ host: '127.0.0.1', port: 0 }, () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0));
    });
  });
}

interface ShownAgent {
  readonly status: string;
  readonly connected: boolean;
  readonly machines: readonly string[];
}

/** A capture agent with a home of its own, run as an operator runs it. */
export class TestAgent {
  readonly home = mkdtempSync(join(tmpdir(), 'sa-'));
  readonly logFile = join(this.home, 'log');
  readonly name: string;
  readonly #appliance: TestAppliance;
  #process: ChildProcess | null = null;

  constructor(appliance: TestAppliance, name: string) {
    this.#appliance = appliance;
    this.name = name;
  }

  /** @param address where the agent shall look for its appliance; a proxy perhaps */
  enroll(address: string, allow: readonly string[]): void {
    const { code } = this.#appliance.json<{ code: string }>('agent', 'invite', '--auto-approve');
    const result = this.command(
      code,
      ...['enroll', '--appliance', address, '--name', this.name],
      ...allow.flatMap((folder) => ['--allow', folder]),
    );
    if (result.code !== 0) throw new Error(`enroll: ${result.stderr}`);
  }

  /** Runs sendense-agent to its end. */
  command(input: string, ...args: string[]): { code: number; stderr: string; stdout: string } {
    const result = spawnSync(bin('sendense-agent'), ['--home', this.home, ...args], {
      ...{ encoding: 'utf8', input, timeout: 60_000 },
    });
    return { code: result.status ?? -1, stderr: result.stderr, stdout: result.stdout };
  }

  /** Starts it and waits until the appliance sees it. */
  async start(): Promise<void> {
    const log = openSync(this.logFile, 'a');
    this.#process = spawn(bin('sendense-agent'), ['--home', this.home, 'run'], {
      stdio: ['ignore', log, log],
    });
    closeSync(log);
    await until(`the agent ${this.name} is connected`, () => this.shown().connected);
  }

  shown(): ShownAgent {
    return JSON.parse(this.#appliance.rest('GET', `/api/v1/agents/${this.name}`).body) as ShownAgent;
  }

  log(): string {
    return readFileSync(this.logFile, 'utf8');
  }

  /** @returns its exit code; null when a signal ended it */
  async ended(): Promise<number | null> {
    const agent = this.#process;
    if (agent && agent.exitCode === null && agent.signalCode === null)
      await new Promise((resolve) => agent.once('exit', resolve));
    return agent?.exitCode ?? null;
  }

  async kill(): Promise<void> {
    this.#process?.kill('SIGKILL');
    await this.ended();
  }

  async stop(): Promise<void> {
    this.#process?.kill('SIGTERM');
    await this.ended();
  }

  async dispose(): Promise<void> {
    // what a killed one left (ssh, movers) is ended by the next start; without one it ends with its pipes
    await this.stop();
    rmSync(this.home, { recursive: true, force: true });
  }
}
