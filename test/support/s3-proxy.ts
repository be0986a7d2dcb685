import { once } from 'node:events';
import { Worker } from 'node:worker_threads';

/** What happens to a request instead of being passed on. */
export type Fault =
  | { readonly kind: 'status'; readonly status: number; readonly code: string }
  /** The connection is cut in the body of the request. */
  | { readonly kind: 'cut' }
  /** It is passed on and done, but the answer never comes. */
  | { readonly kind: 'lost-answer' }
  | { readonly kind: 'cut-answer' }
  | { readonly kind: 'slow'; readonly ms: number }
  /** Passed on, after the programs of this home with this word in their command line were killed. */
  | { readonly kind: 'kill'; readonly word: string; readonly home: string }
  /** Passed on, after this command was begun. */
  | { readonly kind: 'command'; readonly command: string };

export interface FaultRule {
  /** Of `METHOD /path`. */
  readonly pattern: string;
  /** How many requests; null: all. */
  readonly count: number | null;
  readonly fault: Fault;
}

/**
 * Stands before an S3 server and spoils some requests, in a thread of its own, since tests wait for commands without
 * letting anything else run. Signatures stay right: the host is part of what is signed.
 */
export class S3Proxy {
  readonly endpoint: string;
  readonly #worker: Worker;
  readonly #seen: string[] = [];

  private constructor(worker: Worker, endpoint: string) {
    this.#worker = worker;
    this.endpoint = endpoint;
    worker.on('message', (message: { seen?: string }) => {
      if (message.seen !== undefined) this.#seen.push(message.seen);
    });
  }

  static async start(port: number): Promise<S3Proxy> {
    const worker = new Worker(new URL('./s3-proxy-worker.ts', import.meta.url), { workerData: { port } });
    const [{ endpoint }] = (await once(worker, 'message')) as [{ endpoint: string }];
    return new S3Proxy(worker, endpoint);
  }

  /** Of the requests since the last rule was set; those that came while a command was waited for come later. */
  get seen(): readonly string[] {
    return this.#seen;
  }

  /** @param rule null: everything is passed on */
  async set(rule: FaultRule | null): Promise<void> {
    const answered = new Promise<void>((resolve) => {
      const onMessage = (message: { set?: boolean }) => {
        if (!message.set) return;
        this.#worker.off('message', onMessage);
        resolve();
      };
      this.#worker.on('message', onMessage);
    });
    this.#worker.postMessage({ rule });
    await answered;
    this.#seen.length = 0;
  }

  async close(): Promise<void> {
    await this.#worker.terminate();
  }
}
