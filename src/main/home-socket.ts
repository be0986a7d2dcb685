import { chmod, rm } from 'node:fs/promises';
import type { Server } from 'node:http';
import { join } from 'node:path';
import { type HomePaths, MAX_SOCKET_PATH_BYTES } from '../base/home-paths.ts';
import { SendenseError } from '../base/sendense-error.ts';

/** The kernel cuts off longer names without a word. */
export function checkSocketLengths(paths: HomePaths): void {
  const longest = join(paths.runFolder, 'mounts', 'mount-0123456789ab', 'v', 'qsd-nbd.sock');
  if (Buffer.byteLength(longest) <= MAX_SOCKET_PATH_BYTES) return;
  throw new SendenseError('CONFIG_INVALID', {
    detail: `the home ${paths.home} is too long: its sockets would have more than ${MAX_SOCKET_PATH_BYTES} characters`,
  });
}

/** Serves on a unix socket for the daemon's own group. */
export async function listen(server: Server, socketFile: string): Promise<void> {
  await rm(socketFile, { force: true }); // the home is locked, so nobody listens there
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(socketFile, resolve);
  });
  await chmod(socketFile, 0o660);
}
