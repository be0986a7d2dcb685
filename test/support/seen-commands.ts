import { once } from 'node:events';
import { Worker } from 'node:worker_threads';

/** Looks at the command lines of all processes while a test waits for its commands: in a thread of its own. */
export class SeenCommands {
  readonly #worker: Worker;

  private constructor(worker: Worker) {
    this.#worker = worker;
  }

  static async start(): Promise<SeenCommands> {
    const worker = new Worker(new URL('./seen-commands-worker.ts', import.meta.url));
    await once(worker, 'message');
    return new SeenCommands(worker);
  }

  /** Each once, its words separated by NUL. Those that ran for a few milliseconds only may be missing. */
  async lines(): Promise<string[]> {
    const answer = once(this.#worker, 'message');
    this.#worker.postMessage('lines');
    const [lines] = (await answer) as [string[]];
    return lines;
  }

  async close(): Promise<void> {
    await this.#worker.terminate();
  }
}
