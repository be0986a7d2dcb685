import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { ownerIdOf } from '../../src/base/process/owned-processes.ts';
import type { TestAppliance } from '../../test/support/appliance.ts';

export const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;

export interface Sample {
  readonly seconds: number;
  readonly cpuSeconds: number;
  /** Of all processes of the row, MiB. */
  readonly peakMib: number;
  /** Of the daemon and the program that does the work, MiB. */
  readonly ours?: number;
  /** Of that program alone, MiB. */
  readonly worker?: number;
}

/** One program, measured by time(1). */
export function timed(tool: string, ...args: string[]): Sample {
  const result = spawnSync('/usr/bin/time', ['-q', '-f', '%e %U %S %M', tool, ...args], { encoding: 'utf8' });
  if (result.status !== 0) throw new Error(`${tool} ${args.join(' ')}: ${result.stderr}`);
  const [seconds = 0, user = 0, system = 0, peak = 0] = (result.stderr.trim().split('\n').at(-1) ?? '')
    .split(' ')
    .map(Number);
  return { seconds, cpuSeconds: user + system, peakMib: peak / 1024 };
}

/** CPU and memory of every process that belongs to a home, seen every 150 ms. */
export class Watch {
  readonly #home: string;
  readonly #owner: string;
  readonly #cpu = new Map<string, number>();
  readonly #start = new Map<string, number>();
  peakKib = 0;
  peakOursKib = 0;
  #peakWorkerKib = 0;
  readonly #timer: NodeJS.Timeout;

  constructor(home: string) {
    this.#home = home;
    this.#owner = ownerIdOf(home);
    this.#look(true);
    this.#timer = setInterval(() => this.#look(false), 150);
  }

  #look(isFirst: boolean): void {
    let all = 0;
    let ours = 0;
    let worker = 0;
    for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
      try {
        const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
        const isWorker =
          /sendense-(mover|mirror)/.test(command) &&
          readFileSync(`/proc/${pid}/environ`, 'utf8').includes(`SENDENSE_OWNER=${this.#owner}`);
        if (!isWorker && !command.includes(this.#home)) continue;
        const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
        const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
        const ticks = Number(fields[11]) + Number(fields[12]);
        if (isFirst) this.#start.set(pid, ticks);
        this.#cpu.set(pid, ticks);
        const rss = Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0);
        all += rss;
        if (isWorker || command.includes('sendensed.js')) ours += rss;
        if (isWorker) worker += rss;
      } catch {
        // it ended while we looked
      }
    }
    this.peakKib = Math.max(this.peakKib, all);
    this.peakOursKib = Math.max(this.peakOursKib, ours);
    this.#peakWorkerKib = Math.max(this.#peakWorkerKib, worker);
  }

  end(): { cpuSeconds: number; peakMib: number; ours: number; worker: number } {
    this.#look(false);
    clearInterval(this.#timer);
    const ticks = [...this.#cpu].reduce((sum, [pid, value]) => sum + value - (this.#start.get(pid) ?? 0), 0);
    return {
      cpuSeconds: ticks / 100,
      peakMib: this.peakKib / 1024,
      ours: this.peakOursKib / 1024,
      worker: this.#peakWorkerKib / 1024,
    };
  }
}

/** A request from this very process: starting a client program for each look would be in the numbers. */
export function ask<T>(appliance: TestAppliance, method: string, path: string, body?: object): Promise<T> {
  return new Promise((resolve, reject) => {
    const socketPath = join(appliance.home, 'run', 'sendensed.sock');
    const headers = { 'Content-Type': 'application/json' };
    const sent = request({ agent: false, socketPath, method, path: `/api/v1${path}`, headers }, (answer) => {
      let text = '';
      answer.on('data', (chunk) => {
        text += chunk;
      });
      answer.on('end', () => resolve(JSON.parse(text) as T));
    });
    sent.on('error', reject);
    sent.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

/** Sends one command and looks now and then whether its job has ended. */
export async function job(appliance: TestAppliance, path: string, body: object): Promise<Sample> {
  const watch = new Watch(appliance.home);
  const started = performance.now();
  const { job_id } = await ask<{ job_id: string }>(appliance, 'POST', path, body);
  for (;;) {
    const shown = await ask<{ status: string; error: unknown }>(appliance, 'GET', `/jobs/${job_id}`);
    if (shown.status === 'completed') break;
    if (shown.status !== 'running' && shown.status !== 'pending')
      throw new Error(JSON.stringify(shown.error));
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const seconds = (performance.now() - started) / 1000;
  return { seconds, ...watch.end() };
}
