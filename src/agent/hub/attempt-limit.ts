import { SendenseError } from '../../base/sendense-error.ts';

/** Wrong codes within the time below, from one address and from all together. */
const MAX_OF_ONE = 5;
const MAX_OF_ALL = 50;
const WINDOW_MS = 60_000;

/** Counts wrong pairing codes. With 65 bits in each, guessing is hopeless anyway; this keeps it quiet too. */
export class AttemptLimit {
  #failures: { readonly from: string; readonly atMs: number }[] = [];

  /** @throws PAIRING_LIMITED */
  check(from: string, now: Date): void {
    const since = now.getTime() - WINDOW_MS;
    this.#failures = this.#failures.filter(({ atMs }) => atMs > since);
    const own = this.#failures.filter((failure) => failure.from === from).length;
    if (own >= MAX_OF_ONE || this.#failures.length >= MAX_OF_ALL) throw new SendenseError('PAIRING_LIMITED');
  }

  failed(from: string, now: Date): void {
    this.#failures.push({ from, atMs: now.getTime() });
  }
}
