import { setTimeout as sleep } from 'node:timers/promises';

/** What may go out at once after a pause. */
const BURST_MS = 100;

/** Holds a stream of bytes to a rate that may change at any time. */
export class Throttle {
  #bytesPerSecond = 0;
  /** When what was let through so far would be over at this rate. */
  #busyUntilMs = 0;
  #changed = Promise.withResolvers<void>();
  #turns: Promise<void> = Promise.resolve();
  #waiting = 0;

  /** @param bytesPerSecond 0: no limit */
  setRate(bytesPerSecond: number): void {
    this.#bytesPerSecond = bytesPerSecond;
    this.#busyUntilMs = Math.min(this.#busyUntilMs, performance.now());
    this.#changed.resolve();
    this.#changed = Promise.withResolvers<void>();
  }

  /** Waits until so many more bytes may go; who came first goes first, or the beginning of a disk could stay behind. */
  take(bytes: number): Promise<void> {
    if (this.#bytesPerSecond === 0 && this.#waiting === 0) return Promise.resolve();
    this.#waiting += 1;
    this.#turns = this.#turns.then(async () => {
      await this.#next(bytes);
      this.#waiting -= 1;
    });
    return this.#turns;
  }

  async #next(bytes: number): Promise<void> {
    while (this.#bytesPerSecond > 0) {
      const now = performance.now();
      const waitMs = this.#busyUntilMs - now - BURST_MS;
      if (waitMs <= 0) {
        this.#busyUntilMs = Math.max(this.#busyUntilMs, now) + (bytes / this.#bytesPerSecond) * 1000;
        return;
      }
      // a new rate is asked about at once; the timer of the old one must not keep the process
      const late = new AbortController();
      await Promise.race([
        sleep(waitMs, undefined, { signal: late.signal }).catch(() => undefined),
        this.#changed.promise,
      ]);
      late.abort();
    }
  }
}
