import { constants } from 'node:fs';
import { open, readFile, stat } from 'node:fs/promises';
import { errnoOf, messageOf, SendenseError } from '../../base/sendense-error.ts';
import { SECTOR_BYTES } from '../../base/units.ts';
import { readQcow2Header } from '../../qemu/qcow2-header.ts';

export interface InspectedDisk {
  readonly path: string;
  readonly format: 'raw' | 'qcow2';
  /** What the guest sees, in bytes. */
  readonly sizeBytes: number;
  readonly isBlockDevice: boolean;
}

/**
 * Looks at a disk without trusting it.
 * @param format as registered; null only at registration, when a qcow2 header decides
 * @throws SOURCE_MISSING, SOURCE_UNREADABLE, SOURCE_SIZE_INVALID, SOURCE_HEADER_REFUSED
 */
export async function inspectDisk(path: string, format: 'raw' | 'qcow2' | null): Promise<InspectedDisk> {
  const unreadable = (detail: string, cause?: unknown) =>
    new SendenseError('SOURCE_UNREADABLE', { path, detail }, cause);
  const stats = await stat(path).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR')
      throw new SendenseError('SOURCE_MISSING', { path }, error);
    throw unreadable(errnoOf(error) ?? messageOf(error), error);
  });
  const isBlockDevice = stats.isBlockDevice();
  if (!stats.isFile() && !isBlockDevice) throw unreadable('it is neither a file nor a block device');
  try {
    await using _handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    throw unreadable(errnoOf(error) ?? messageOf(error), error);
  }
  const rawSize = isBlockDevice ? await blockDeviceSize(path, stats.rdev) : stats.size;
  const header = await readQcow2Header(path).catch((error: unknown) => {
    if (errnoOf(error) !== null) throw unreadable(errnoOf(error) ?? '', error);
    throw new SendenseError('SOURCE_HEADER_REFUSED', { path, detail: messageOf(error) }, error);
  });
  const decided = format ?? (header === null ? 'raw' : 'qcow2');
  if (decided === 'qcow2' && header === null)
    throw new SendenseError('SOURCE_HEADER_REFUSED', { path, detail: 'it has no qcow2 header' });
  const sizeBytes = decided === 'qcow2' && header !== null ? header.virtualSizeBytes : rawSize;
  if (sizeBytes === 0 || sizeBytes % SECTOR_BYTES !== 0)
    throw new SendenseError('SOURCE_SIZE_INVALID', { path, size: sizeBytes });
  return { path, format: decided, sizeBytes, isBlockDevice };
}

/** From sysfs, which needs no ioctl; always in 512-byte sectors. */
async function blockDeviceSize(path: string, rdev: number): Promise<number> {
  // glibc's encoding of dev_t
  const major = (rdev >>> 8) & 0xfff;
  const minor = (rdev & 0xff) | ((rdev >>> 12) & 0xfff00);
  try {
    return Number((await readFile(`/sys/dev/block/${major}:${minor}/size`, 'utf8')).trim()) * SECTOR_BYTES;
  } catch (error) {
    throw new SendenseError('SOURCE_UNREADABLE', { path, detail: messageOf(error) }, error);
  }
}
