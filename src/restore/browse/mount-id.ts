import { readFile } from 'node:fs/promises';

/**
 * The number of the mount in which an open file lies, from proc(5). The subvolumes of one btrfs have device numbers of
 * their own but are one mount.
 */
export async function mountIdOf(fd: number): Promise<string> {
  const text = await readFile(`/proc/self/fdinfo/${fd}`, 'utf8');
  return /^mnt_id:\s*(\d+)$/m.exec(text)?.[1] ?? `unknown of ${fd}`;
}
