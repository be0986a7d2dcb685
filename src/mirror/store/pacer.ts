import { setTimeout as sleep } from 'node:timers/promises';

const MIB_BYTES = 1024 * 1024;
const MINUTE_MS = 60_000;

/** A time of day with its own speed, in minutes since midnight of the local time; may go over midnight. */
export interface RateWindow {
  readonly fromMinute: number;
  readonly toMinute: number;
  /** 0: nothing is sent in it. */
  readonly mibPerSecond: number;
}

export interface RateLimit {
  /** Outside all windows; null: as fast as it goes. */
  readonly mibPerSecond: number | null;
  readonly windows: readonly RateWindow[];
}

/** @returns MiB per second; null: no limit */
export function rateAt({ mibPerSecond, windows }: RateLimit, now: Date): number | null {
  const minute = now.getHours() * 60 + now.getMinutes();
  const isIn = ({ fromMinute, toMinute }: RateWindow) =>
    fromMinute <= toMinute
      ? minute >= fromMinute && minute < toMinute
      : minute >= fromMinute || minute < toMinute;
  return windows.find(isIn)?.mibPerSecond ?? mibPerSecond;
}

/** Spreads what is sent over time. */
export class Pacer {
  readonly #limit: RateLimit;
  readonly #now: () => Date;
  #paidAtMs = 0;

  constructor(limit: RateLimit, now: () => Date = () => new Date()) {
    this.#limit = limit;
    this.#now = now;
  }

  /** Waits until so many bytes may be sent. @throws the signal's reason */
  async pace(bytes: number, signal: AbortSignal): Promise<void> {
    let rate = rateAt(this.#limit, this.#now());
    while (rate === 0) {
      await sleep(MINUTE_MS, undefined, { signal });
      rate = rateAt(this.#limit, this.#now());
    }
    if (rate === null) return;
    const nowMs = performance.now();
    const startMs = Math.max(nowMs, this.#paidAtMs);
    this.#paidAtMs = startMs + (bytes / (rate * MIB_BYTES)) * 1000;
    if (startMs > nowMs) await sleep(startMs - nowMs, undefined, { signal });
  }
}
