import { InvalidArgumentError } from 'commander';

/** What options take; the daemon has the last word. */
export const backupTypes = ['full', 'incremental', 'differential'];
export const jobStatuses = ['pending', 'running', 'completed', 'failed', 'cancelled'];
export const mountModes = ['auto', 'loop', 'userspace', 'kernel-nbd', 'vm'];
export const diskFormats = ['raw', 'qcow2', 'vmdk', 'vhdx'];

/** The number of a disk of a machine, as `vm show` lists it. */
export function diskNumber(text: string): number {
  if (!/^\d{1,4}$/.test(text)) throw new InvalidArgumentError('It must be the number of a disk, as in 0.');
  return Number(text);
}

/** A rate in MiB a second. */
export function mibPerSecond(text: string): number {
  const rate = Number(text);
  if (!/^\d+(\.\d+)?$/.test(text) || rate < 1 || rate > 65_536)
    throw new InvalidArgumentError('It must be a number of MiB a second, from 1 to 65536.');
  return rate;
}

/** How much of the beginning of a file to show. */
export function previewBytes(text: string): number {
  if (!/^\d{1,5}$/.test(text) || Number(text) > 65_536)
    throw new InvalidArgumentError('It must be a number of bytes up to 65536.');
  return Number(text);
}
