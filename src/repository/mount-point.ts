import { readFile } from 'node:fs/promises';
import { posix } from 'node:path';

interface Mount {
  readonly id: string;
  readonly parent: string;
  /** `major:minor` of the file system. */
  readonly device: string;
  /** Which folder of the file system it shows. */
  readonly shows: string;
  readonly place: string;
  readonly isAutofs: boolean;
}

const unescaped = (field: string) =>
  field.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));

/** As in proc(5). */
function parse(mountinfo: string): Mount[] {
  return mountinfo.split('\n').flatMap((line) => {
    const [front = '', back = ''] = line.split(' - ');
    const [id = '', parent = '', device = '', shows = '', place = ''] = front.split(' ').map(unescaped);
    return place === '' ? [] : [{ id, parent, device, shows, place, isAutofs: back.startsWith('autofs ') }];
  });
}

/**
 * True for a folder that is bound onto itself, as systemd does it with the folders of a service that has a mount
 * namespace of its own: without that mount the very same files would be there.
 */
function isBoundToItself(mount: Mount, all: readonly Mount[]): boolean {
  const below = all.find(({ id }) => id === mount.parent);
  if (below === undefined || below.device !== mount.device) return false;
  return posix.join(below.shows, posix.relative(below.place, mount.place)) === mount.shows;
}

/**
 * The mount point below which a path lies, by the longest that fits. An autofs place counts only once something is
 * mounted there, a folder that is bound onto itself never. Pure.
 * @param mountinfo as in proc(5)
 * @param path absolute, without symbolic links; need not exist
 */
export function mountPointIn(mountinfo: string, path: string): string {
  const mounts = parse(mountinfo);
  let found = '/';
  for (const mount of mounts) {
    const { place } = mount;
    if (place === '/' || mount.isAutofs || isBoundToItself(mount, mounts)) continue;
    if ((path === place || path.startsWith(`${place}/`)) && place.length > found.length) found = place;
  }
  return found;
}

export async function mountPointOf(path: string): Promise<string> {
  return mountPointIn(await ownTable(), path);
}

/** True when all that is mounted above the path is folders that are bound onto themselves. */
export async function isOnlyBound(path: string): Promise<boolean> {
  const table = await ownTable();
  const mounts = parse(table);
  const isBound = (mount: Mount) =>
    (path === mount.place || path.startsWith(`${mount.place}/`)) && isBoundToItself(mount, mounts);
  return mountPointIn(table, path) === '/' && mounts.some(isBound);
}

const ownTable = () => readFile('/proc/self/mountinfo', 'utf8');
