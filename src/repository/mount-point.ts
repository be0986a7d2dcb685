import { readFile } from 'node:fs/promises';

const unescaped = (field: string) =>
  field.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));

/**
 * The mount point below which a path lies, by the longest that fits. An autofs place counts only once something is
 * mounted there. Pure.
 * @param mountinfo as in proc(5)
 * @param path absolute, without symbolic links; need not exist
 */
export function mountPointIn(mountinfo: string, path: string): string {
  let found = '/';
  for (const line of mountinfo.split('\n')) {
    const [front = '', back = ''] = line.split(' - ');
    const place = unescaped(front.split(' ')[4] ?? '');
    if (place === '' || place === '/' || back.startsWith('autofs ')) continue;
    if ((path === place || path.startsWith(`${place}/`)) && place.length > found.length) found = place;
  }
  return found;
}

export async function mountPointOf(path: string): Promise<string> {
  return mountPointIn(await readFile('/proc/self/mountinfo', 'utf8'), path);
}
