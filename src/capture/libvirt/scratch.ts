import { setTimeout as sleep } from 'node:timers/promises';
import { SendenseError } from '../../base/sendense-error.ts';
import { formatBytes } from '../../base/units.ts';
import type { LibvirtConnection } from './connection.ts';

/**
 * While a backup runs, everything that the guest overwrites is kept on the libvirt host. When that place is full the
 * guest's own writes fail, so it is looked at beforehand.
 * @param totalBytes of all disks: more can never be overwritten
 * @throws SCRATCH_SPACE
 */
export async function checkScratch(
  { host, scratchFolder, scratchBytes }: LibvirtConnection,
  totalBytes: number,
): Promise<void> {
  const available = await host.freeBytes(scratchFolder);
  const needed = Math.min(scratchBytes, totalBytes);
  if (available >= needed) return;
  throw new SendenseError('SCRATCH_SPACE', {
    path: scratchFolder,
    needed: formatBytes(needed),
    available: formatBytes(available),
  });
}

const LOOK_MS = 2_000;

/**
 * Looks on while a backup runs. The guest matters more than its backup: this is given up before the guest's writes fail.
 * @param giveUp called once, when half of what was there to begin with is gone
 */
export function watchScratch(
  { host, scratchFolder, scratchBytes }: LibvirtConnection,
  totalBytes: number,
  giveUp: (reason: string) => Promise<void>,
): AsyncDisposable {
  const stop = new AbortController();
  const limit = Math.min(scratchBytes, totalBytes) / 2;
  const looking = (async () => {
    while (!stop.signal.aborted) {
      await sleep(LOOK_MS, undefined, { signal: stop.signal }).catch(() => undefined);
      if (stop.signal.aborted) return;
      // a host that cannot be reached is noticed by those who read from it
      const available = await host.freeBytes(scratchFolder).catch(() => Number.POSITIVE_INFINITY);
      if (available >= limit) continue;
      await giveUp(`only ${formatBytes(available)} are free in ${scratchFolder}`);
      return;
    }
  })();
  return {
    [Symbol.asyncDispose]: async () => {
      stop.abort();
      await looking;
    },
  };
}
