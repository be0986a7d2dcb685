import { constants } from 'node:fs';
import { type FileHandle, open, readdir, readFile, realpath, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { run } from '../../base/process/run.ts';
import { errnoOf, messageOf, SendenseError } from '../../base/sendense-error.ts';

/** A block device as a restore sees it before it writes a byte. */
export interface BlockDevice {
  /** With all symlinks resolved, as in `/dev/sdb` for `/dev/disk/by-id/…`. */
  readonly path: string;
  readonly sizeBytes: number;
  /** As its maker calls it, or the file behind a loop device. */
  readonly model: string | null;
  /** What is on it now, as blkid names it: one entry for the device and one for each partition. */
  readonly contents: readonly string[];
  /** Changes when another disk takes this name, also after a start of the machine. */
  readonly identity: string;
  /** For a loop device: the file behind it. */
  readonly backingFile: string | null;
}

const SECTOR_BYTES = 512;

/** @returns null when the path is no block device */
export async function inspectBlockDevice(output: string): Promise<BlockDevice | null> {
  const path = await realpath(output).catch(() => output);
  const stats = await stat(path).catch(() => null);
  if (!stats?.isBlockDevice()) return null;
  const folder = await sysFolder(stats.rdev);
  const text = (name: string) => attribute(folder, name);
  const backingFile = await text('loop/backing_file');
  const [vendor, name] = [await text('device/vendor'), await text('device/model')];
  const model = [vendor, name].filter((word) => word !== null).join(' ') || backingFile;
  const serial = (await text('wwid')) ?? (await text('device/wwid')) ?? (await text('device/serial'));
  // without a serial number the kernel's count of disks tells them apart, until the next start
  const boot = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
  const identity = serial ?? `${boot}:${(await text('diskseq')) ?? stats.rdev}:${backingFile ?? ''}`;
  const sizeBytes = Number((await text('size')) ?? 0) * SECTOR_BYTES;
  const places = [path, ...(await partitionsOf(folder)).map((partition) => `/dev/${partition}`)];
  const contents = (await Promise.all(places.map(contentOf))).filter((line) => line !== null);
  return { path, sizeBytes, model: model === '' ? null : model, contents, identity, backingFile };
}

/** major and minor as `makedev(3)` packs them. */
function numbersOf(rdev: number): string {
  const device = BigInt(rdev);
  const major = ((device >> 8n) & 0xfffn) | ((device >> 32n) & ~0xfffn);
  const minor = (device & 0xffn) | ((device >> 12n) & ~0xffn);
  return `${major}:${minor}`;
}

const sysFolder = (rdev: number) => realpath(`/sys/dev/block/${numbersOf(rdev)}`);

async function attribute(folder: string, name: string): Promise<string | null> {
  const text = await readFile(join(folder, name), 'utf8').catch(() => null);
  return text === null || text.trim() === '' ? null : text.trim();
}

async function partitionsOf(folder: string): Promise<string[]> {
  const found: string[] = [];
  for (const name of await readdir(folder))
    if ((await attribute(join(folder, name), 'partition')) !== null) found.push(name);
  return found;
}

/** As in `/dev/sdb1: ext4 "root"`; null for what is empty or unknown. */
async function contentOf(path: string): Promise<string | null> {
  const { stdout } = await run('blkid', ['-p', '-o', 'export', path], { okExitCodes: [0, 2, 4, 8] });
  const value = (key: string) => new RegExp(`^${key}=(.*)$`, 'm').exec(stdout)?.[1];
  const kind = value('TYPE') ?? (value('PTTYPE') === undefined ? undefined : `${value('PTTYPE')} partitions`);
  if (kind === undefined) return null;
  const label = value('LABEL');
  return `${path}: ${kind}${label === undefined ? '' : ` "${label}"`}`;
}

/**
 * Takes the device for this process: as long as the handle is open nobody can mount it, nor use it otherwise in a way
 * that excludes others.
 * @throws OUTPUT_IN_USE while it, a partition of it or what is built on it is mounted or held; OUTPUT_INVALID when it
 *   is read-only
 */
export async function holdBlockDevice(device: BlockDevice): Promise<FileHandle> {
  const { path } = device;
  const folder = await sysFolder((await stat(path)).rdev);
  if ((await attribute(folder, 'ro')) === '1')
    throw new SendenseError('OUTPUT_INVALID', { path, detail: 'the device is read-only' });
  const user = await userOf(folder);
  if (user !== null) throw new SendenseError('OUTPUT_IN_USE', { path, detail: user });
  try {
    return await open(path, constants.O_RDWR | constants.O_EXCL);
  } catch (error) {
    if (errnoOf(error) === 'EBUSY')
      throw new SendenseError('OUTPUT_IN_USE', { path, detail: 'another program holds it' }, error);
    throw new SendenseError('OUTPUT_INVALID', { path, detail: messageOf(error) }, error);
  }
}

/** Who uses the device, a partition of it or a device built on either; null: nobody that can be seen. */
async function userOf(folder: string): Promise<string | null> {
  const name = basename(folder);
  const numbers = await attribute(folder, 'dev');
  for (const line of (await readFile('/proc/self/mountinfo', 'utf8')).split('\n')) {
    const fields = line.split(' ');
    const source = fields[fields.indexOf('-') + 2];
    if (fields[2] === numbers || source === `/dev/${name}`)
      return `${name} is mounted at ${fields[4] ?? '?'}`;
  }
  const swaps = await readFile('/proc/swaps', 'utf8').catch(() => '');
  if (swaps.split('\n').some((line) => line.startsWith(`/dev/${name} `))) return `${name} is swap space`;
  const [holder] = await readdir(join(folder, 'holders')).catch(() => []);
  if (holder !== undefined) return `${name} is part of ${holder}`;
  const loop = await loopOn(`/dev/${name}`);
  if (loop !== null) return `${loop} is attached to it`;
  for (const partition of await partitionsOf(folder)) {
    const user = await userOf(join(folder, partition));
    if (user !== null) return user;
  }
  return null;
}

/** The loop device that is attached to a file or device; sysfs knows it as no holder. */
export async function loopOn(path: string): Promise<string | null> {
  for (const name of await readdir('/sys/block'))
    if ((await attribute(join('/sys/block', name), 'loop/backing_file')) === path) return `/dev/${name}`;
  return null;
}

/** Every name under which the device's bytes, or some of them, can be read: itself, its disk, its partitions, its file. */
export async function namesOf(device: BlockDevice): Promise<string[]> {
  const folder = await sysFolder((await stat(device.path)).rdev);
  const isPartition = (await attribute(folder, 'partition')) !== null;
  return [
    device.path,
    ...(isPartition ? [`/dev/${basename(dirname(folder))}`] : []),
    ...(await partitionsOf(folder)).map((name) => `/dev/${name}`),
    ...(device.backingFile === null ? [] : [device.backingFile]),
  ];
}
