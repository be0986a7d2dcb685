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
