import { setTimeout as sleep } from 'node:timers/promises';
import { SendenseError } from '../../base/sendense-error.ts';

const MIB = 1024 * 1024;

/** How fast reading may go, and whether it may go at all just now. */
export interface Pace {
  /** Called before each read; returns when it may be done. @throws CANCELLED */
  take(bytes: number, signal: AbortSignal): Promise<void>;
}

/**
 * @param mibPerSecond null: as fast as it goes
 * @param pause resolves when reading may go on; null: it always may
 */
export function paceOf(
  mibPerSecond: number | null,
  pause: ((signal: AbortSignal) => Promise<void>) | null = null,
): Pace {
  /** When the next read may start, in ms of the monotonic clock. */
  let freeAt = 0;
  return {
    take: async (bytes, signal) => {
      if (pause !== null) await pause(signal);
      if (signal.aborted) throw new SendenseError('CANCELLED');
      if (mibPerSecond === null) return;
      const now = performance.now();
      const startAt = Math.max(now, freeAt);
      freeAt = startAt + (bytes / MIB / mibPerSecond) * 1000;
      if (startAt <= now) return;
      await sleep(startAt - now, undefined, { signal }).catch(() => undefined);
      if (signal.aborted) throw new SendenseError('CANCELLED');
    },
  };
}
