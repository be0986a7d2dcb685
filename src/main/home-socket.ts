import { chmod, chown, rm } from 'node:fs/promises';
import type { Server } from 'node:http';
import { dirname, join } from 'node:path';
import { type HomePaths, MAX_SOCKET_PATH_BYTES } from '../base/home/home-paths.ts';
import { run } from '../base/process/run.ts';
import { SendenseError } from '../base/sendense-error.ts';

/** The kernel cuts off longer names without a word. */
export function checkSocketLengths(paths: HomePaths): void {
  const longest = join(paths.runFolder, 'mounts', 'mount-0123456789ab', 'v', 'qsd-nbd.sock');
  if (Buffer.byteLength(longest) <= MAX_SOCKET_PATH_BYTES) return;
  throw new SendenseError('CONFIG_INVALID', {
    detail: `the home ${paths.home} is too long: its sockets would have more than ${MAX_SOCKET_PATH_BYTES} characters`,
  });
}

/** @throws CONFIG_INVALID */
async function groupId(name: string): Promise<number> {
  const { stdout } = await run('getent', ['group', name]).catch(() => ({ stdout: '' }));
  const gid = /^[^:]*:[^:]*:(\d+):/.exec(stdout)?.[1];
  if (gid === undefined)
    throw new SendenseError('CONFIG_INVALID', { detail: `api.socket_group: there is no group ${name}` });
  return Number(gid);
}

/**
 * Serves on a unix socket for one group.
 * @param group its name; empty: the daemon's own
 * @throws CONFIG_INVALID when there is no such group
 */
export async function listen(server: Server, socketFile: string, group: string): Promise<void> {
  const gid = group === '' ? null : await groupId(group);
  await rm(socketFile, { force: true }); // the home is locked, so nobody listens there
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(socketFile, resolve);
  });
  if (gid !== null) {
    // they may go through the folder and see nothing else of it: its files stay of the daemon's own group
    await chown(dirname(socketFile), process.getuid?.() ?? -1, gid);
    await chmod(dirname(socketFile), 0o710);
    await chown(socketFile, process.getuid?.() ?? -1, gid);
  }
  await chmod(socketFile, 0o660);
}
