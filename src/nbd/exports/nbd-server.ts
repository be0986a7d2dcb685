import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pLimit from 'p-limit';
import type { Logger } from '../../base/logger.ts';
import { isAlive, kill } from '../../base/process/owned-processes.ts';
import { run } from '../../base/process/run.ts';
import { transferHeap } from '../../base/process/transfer-heap.ts';
import { hasCode, messageOf, SendenseError } from '../../base/sendense-error.ts';
import { reloadBudget, type ToolVersion } from '../../qemu/tool-versions.ts';
import { probeExport } from '../client/nbd-connection.ts';
import { ConfD } from './conf-d.ts';
import { nbdServerProcesses } from './nbd-server-processes.ts';

/** It daemonizes before it binds, and DH parameters may take it a while: 0.2–1.6 s were seen. */
const START_TIMEOUT_MS = 15_000;
/** A reload answers within some milliseconds; after this the parent is replaced. */
const RELOAD_TIMEOUT_MS = 1_000;
/** The pid file is there once the server answers; a second is more than enough. */
const PID_FILE_ROUNDS = 100;
const WATCH_INTERVAL_MS = 100;
/** Without exports for so long the parent is replaced, which clears the names of removed exports. */
const IDLE_REPLACE_MS = 10_000;

interface NbdServerDeps {
  readonly logger: Logger;
  readonly runFolder: string;
  readonly version: ToolVersion;
  /** Told what an operator should know: a dead parent, a quarantined file. */
  readonly onNotice: (kind: 'parent_died' | 'conf_quarantined', detail: string) => void;
}

/**
 * Keeps one nbd-server parent alive. The server forks a child per connection and children survive the death of
 * the parent, so replacing the parent (KILL, never TERM) disturbs no transfer.
 */
export class NbdServer implements AsyncDisposable {
  readonly socketPath: string;
  readonly #deps: NbdServerDeps;
  readonly #confD: ConfD;
  readonly #pidFile: string;
  readonly #serial = pLimit(1);
  /** Name → size of the exports that must answer. */
  readonly #exports = new Map<string, number>();
  #pid: number | null = null;
  #reloads = 0;
  #hasStaleNames = false;
  #idleSince = Date.now();
  #watch: NodeJS.Timeout | null = null;

  constructor(deps: NbdServerDeps) {
    this.#deps = deps;
    this.socketPath = join(deps.runFolder, 'nbd.sock');
    this.#pidFile = join(deps.runFolder, 'nbd-server.pid');
    this.#confD = new ConfD(deps.runFolder, this.socketPath);
  }

  get pid(): number | null {
    return this.#pid;
  }

  async start(): Promise<void> {
    await this.#serial(async () => {
      await this.#confD.initialise();
      await this.#startParent();
    });
    this.#watch = setInterval(() => void this.#serial(() => this.#lookAfter()), WATCH_INTERVAL_MS);
    this.#watch.unref();
  }

  /**
   * Adds an export and proves with a handshake that it answers with this size. Adds that come together share one
   * reload.
   * @throws EXPORT_FAILED
   */
  async add(name: string, path: string, sizeBytes: number): Promise<void> {
    await this.#confD.write(name, path);
    this.#exports.set(name, sizeBytes);
    await this.#serial(async () => {
      try {
        // a reload for somebody else may have come after our file was there
        if (await this.#answers(name, sizeBytes, 0)) return;
        await this.#publish(name, sizeBytes);
      } catch (error) {
        await this.#forget(name);
        throw error;
      }
    });
  }

  /**
   * Takes the export out of the configuration. nbd-server itself never forgets a name, so the caller must also
   * remove the file behind it; names are never used again.
   */
  async remove(name: string): Promise<void> {
    await this.#serial(() => this.#forget(name));
  }

  async #forget(name: string): Promise<void> {
    await this.#confD.remove(name);
    this.#exports.delete(name);
    this.#hasStaleNames = true;
    this.#idleSince = Date.now();
  }

  async stop(): Promise<void> {
    if (this.#watch) clearInterval(this.#watch);
    await this.#serial(async () => {
      const pid = this.#pid;
      this.#pid = null;
      // TERM reaches all children: right here, where no transfer may outlive us
      if (pid !== null && kill(pid, 'SIGTERM')) await waitForEnd(pid);
      // children of parents that were replaced, and a parent that started too late to be known
      for (const left of await nbdServerProcesses(this.#confD.baseFile)) kill(left.pid, 'SIGKILL');
      await rm(this.socketPath, { force: true });
      await rm(this.#pidFile, { force: true });
    });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  async #publish(name: string, sizeBytes: number): Promise<void> {
    const parentLives = this.#pid !== null && (await isAlive(this.#pid));
    if (parentLives && this.#reloads < reloadBudget(this.#deps.version)) {
      this.#reloads += 1;
      if (this.#pid !== null) kill(this.#pid, 'SIGHUP');
      if (await this.#answers(name, sizeBytes, RELOAD_TIMEOUT_MS)) return;
      await this.#quarantine();
    }
    await this.#replaceParent();
    if (await this.#answers(name, sizeBytes, START_TIMEOUT_MS)) return;
    throw new SendenseError('EXPORT_FAILED', { export: name, detail: 'nbd-server does not answer for it' });
  }

  async #answers(name: string, sizeBytes: number, timeoutMs: number): Promise<boolean> {
    const deadline = Date.now() + timeoutMs;
    for (;;) {
      const found = await probeExport(
        { socketPath: this.socketPath, exportName: name },
        Math.max(timeoutMs, 1_000),
      ).catch(() => null);
      if (found !== null) {
        if (found.sizeBytes === sizeBytes) return true;
        throw new SendenseError('EXPORT_FAILED', {
          export: name,
          detail: `it has ${found.sizeBytes} bytes instead of ${sizeBytes}`,
        });
      }
      if (Date.now() >= deadline) return false;
      await sleep(5);
    }
  }

  async #quarantine(): Promise<void> {
    for (const file of await this.#confD.quarantineBroken()) {
      this.#deps.logger.error({ file }, 'a broken file in conf.d was renamed to .broken');
      this.#deps.onNotice('conf_quarantined', file);
    }
  }

  async #replaceParent(): Promise<void> {
    const pid = this.#pid;
    this.#pid = null;
    if (pid !== null && kill(pid, 'SIGKILL')) await waitForEnd(pid);
    await this.#startParent();
  }

  async #startParent(): Promise<void> {
    await rm(this.socketPath, { force: true });
    await rm(this.#pidFile, { force: true });
    const args = ['-C', this.#confD.baseFile, '-p', this.#pidFile];
    const options = { timeoutMs: START_TIMEOUT_MS, env: transferHeap };
    try {
      await run('nbd-server', args, options);
    } catch (error) {
      if (!hasCode(error, 'TOOL_FAILED')) throw error;
      // at start one broken file means no exports at all
      await this.#quarantine();
      await run('nbd-server', args, options);
    }
    const deadline = Date.now() + START_TIMEOUT_MS;
    while (!(await this.#parentAnswers())) {
      if (Date.now() > deadline)
        throw new SendenseError('TOOL_TIMEOUT', { tool: 'nbd-server', seconds: START_TIMEOUT_MS / 1000 });
      await sleep(10);
    }
    this.#pid = await this.#adoptParent();
    this.#reloads = 0;
    this.#hasStaleNames = false;
  }

  /** Takes the process of the pid file for the parent and ends any other, so that there is never a second one. */
  async #adoptParent(): Promise<number> {
    for (let round = 0; round < PID_FILE_ROUNDS; round += 1) {
      const pid = Number((await readFile(this.#pidFile, 'utf8').catch(() => '')).trim());
      if (pid > 1 && (await isAlive(pid))) {
        for (const other of await nbdServerProcesses(this.#confD.baseFile)) {
          if (other.isParent && other.pid !== pid) kill(other.pid, 'SIGKILL');
        }
        return pid;
      }
      await sleep(10);
    }
    throw new SendenseError('TOOL_FAILED', {
      tool: 'nbd-server',
      outcome: 'no pid',
      detail: 'it wrote no pid file',
    });
  }

  /** A refusal of a name that cannot exist is the answer of a living server. */
  async #parentAnswers(): Promise<boolean> {
    return await probeExport({ socketPath: this.socketPath, exportName: '_nobody' }, 1_000).then(
      () => true,
      (error: unknown) => hasCode(error, 'EXPORT_FAILED'),
    );
  }

  async #lookAfter(): Promise<void> {
    if (this.#watch === null || this.#pid === null) return;
    try {
      if (!(await isAlive(this.#pid))) {
        this.#deps.logger.error(
          { pid: this.#pid },
          'the nbd-server parent died; starting a new one, transfers go on',
        );
        this.#deps.onNotice('parent_died', `pid ${this.#pid} after ${this.#reloads} reloads`);
        await this.#startParent();
      } else if (
        this.#exports.size === 0 &&
        this.#hasStaleNames &&
        Date.now() - this.#idleSince > IDLE_REPLACE_MS
      ) {
        await this.#replaceParent();
      }
    } catch (error) {
      this.#deps.logger.error({ error: messageOf(error) }, 'nbd-server does not start; trying again');
    }
  }
}

async function waitForEnd(pid: number): Promise<void> {
  for (let round = 0; round < 500 && (await isAlive(pid)); round += 1) await sleep(10);
}
