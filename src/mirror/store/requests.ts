import { setTimeout as sleep } from 'node:timers/promises';
import { SendenseError } from '../../base/sendense-error.ts';
import type { StorePlace } from './object-store.ts';
import { judge } from './s3-errors.ts';

const MAX_TRIES = 8;
const FIRST_DELAY_MS = 100;
const MAX_DELAY_MS = 20_000;
const MAX_AT_ONCE = 16;
/** After so many answers without a complaint one more request may run. */
const ANSWERS_PER_STEP = 20;

export interface RequestCounts {
  readonly requests: number;
  readonly retries: number;
}

/**
 * Sends requests: as many at once as the server bears, and again with full jitter when it may help. A server that asks
 * for fewer gets half as many, and one more after each run of good answers.
 */
export class Requests {
  readonly #signal: AbortSignal | undefined;
  readonly #maxTries: number;
  #allowed = MAX_AT_ONCE;
  #running = 0;
  #good = 0;
  #waiting: (() => void)[] = [];
  #requests = 0;
  #retries = 0;

  constructor(signal?: AbortSignal, maxTries = MAX_TRIES) {
    this.#signal = signal;
    this.#maxTries = maxTries;
  }

  get counts(): RequestCounts {
    return { requests: this.#requests, retries: this.#retries };
  }

  get allowed(): number {
    return this.#allowed;
  }

  /** @throws SendenseError, see `s3-errors.ts`; CANCELLED */
  async run<T>(place: StorePlace, action: string, key: string, request: () => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt += 1) {
      if (this.#signal?.aborted) throw new SendenseError('CANCELLED');
      await this.#enter();
      this.#requests += 1;
      try {
        const answer = await request();
        this.#praise();
        return answer;
      } catch (thrown) {
        const { error, retry, slower } = judge(thrown, place, `${action} ${key}`, key);
        if (slower) this.#halve();
        if (!retry || attempt >= this.#maxTries) throw error;
        this.#retries += 1;
      } finally {
        this.#leave();
      }
      await this.#pause(attempt);
    }
  }

  async #pause(attempt: number): Promise<void> {
    const limit = Math.min(MAX_DELAY_MS, FIRST_DELAY_MS * 2 ** attempt);
    const options = this.#signal === undefined ? {} : { signal: this.#signal };
    await sleep(Math.random() * limit, undefined, options).catch(() => undefined);
  }

  async #enter(): Promise<void> {
    while (this.#running >= this.#allowed) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.#running += 1;
  }

  #leave(): void {
    this.#running -= 1;
    this.#waiting.shift()?.();
  }

  #praise(): void {
    this.#good += 1;
    if (this.#good < ANSWERS_PER_STEP || this.#allowed >= MAX_AT_ONCE) return;
    this.#good = 0;
    this.#allowed += 1;
    this.#waiting.shift()?.();
  }

  #halve(): void {
    this.#good = 0;
    this.#allowed = Math.max(1, Math.floor(this.#allowed / 2));
  }
}
