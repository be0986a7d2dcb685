import { setTimeout as sleep } from 'node:timers/promises';
import { SendenseError } from '../../../base/sendense-error.ts';

const MIB_BYTES = 1024 * 1024;
/** What is sent between two looks at the budget: small enough that downloads of different kinds take even turns. */
export const PACED_BYTES = 64 * 1024;
/** How far the budget may run ahead of the clock; Node's timers are not finer. */
const SLACK_MS = 5;

export interface DownloadLimitValues {
  readonly max: number;
  readonly maxPerMount: number;
  /** Of all downloads together, MiB per second; 0: no limit. */
  readonly mibPerSecond: number;
}

/** How many downloads run, and how fast they are together. */
export class DownloadLimits {
  readonly #values: DownloadLimitValues;
  readonly #running = new Map<string, number>();
  #total = 0;
  /** When all bytes granted so far have been paid for, on the clock of `performance`. */
  #paidAtMs = 0;

  constructor(values: DownloadLimitValues) {
    this.#values = values;
  }

  get isPaced(): boolean {
    return this.#values.mibPerSecond > 0;
  }

  get running(): number {
    return this.#total;
  }

  /**
   * Takes a place until it is disposed of.
   * @throws LIMIT_REACHED
   */
  enter(mountId: string): Disposable {
    const { max, maxPerMount } = this.#values;
    const ofMount = this.#running.get(mountId) ?? 0;
    if (this.#total >= max) throw new SendenseError('LIMIT_REACHED', { what: 'downloads', limit: max });
    if (ofMount >= maxPerMount)
      throw new SendenseError('LIMIT_REACHED', { what: `downloads from ${mountId}`, limit: maxPerMount });
    this.#running.set(mountId, ofMount + 1);
    this.#total += 1;
    let isIn = true;
    return {
      [Symbol.dispose]: () => {
        if (!isIn) return;
        isIn = false;
        this.#total -= 1;
        const left = (this.#running.get(mountId) ?? 1) - 1;
        if (left === 0) this.#running.delete(mountId);
        else this.#running.set(mountId, left);
      },
    };
  }

  /**
   * Waits until these bytes may be sent. Who asks first is served first, and each download asks for one piece at a
   * time, so that all get the same share.
   * @throws AbortError when the signal says so
   */
  async pace(bytes: number, signal: AbortSignal): Promise<void> {
    if (!this.isPaced) return;
    const now = performance.now();
    const startMs = Math.max(now, this.#paidAtMs);
    this.#paidAtMs = startMs + (bytes / (this.#values.mibPerSecond * MIB_BYTES)) * 1000;
    if (startMs - now > SLACK_MS) await sleep(startMs - now, undefined, { signal });
  }
}
