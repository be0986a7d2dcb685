import { chmod, mkdir, readdir, rmdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { run } from '../base/process/run.ts';
import { errnoOf, SendenseError } from '../base/sendense-error.ts';
import { checkedName } from './privileged/checked-path.ts';
import { readMountTable } from './privileged/mount-table.ts';
import type { Place, PrivilegedWork, SweepResult } from './privileged-work.ts';

/** What is left of the work without privileges: places for FUSE, which its own user may unmount. */
export function unprivilegedWork(baseFolder: string): PrivilegedWork {
  const missing = (what: string) => async () => {
    throw new SendenseError('PRIVILEGE_MISSING', { what });
  };
  const pathOf = ({ session, key }: Place) => join(baseFolder, checkedName(session), checkedName(key));
  return {
    attachLoop: missing('A loop device'),
    detachLoop: async () => {},
    connectNbd: missing('A device of the kernel'),
    disconnectNbd: async () => {},
    mount: missing('Mounting by the kernel'),
    expose: missing('Showing a mount elsewhere'),
    unexpose: async () => {},
    makePlace: async (place) => {
      const path = pathOf(place);
      await mkdir(path, { recursive: true, mode: 0o700 });
      await chmod(dirname(path), 0o700);
      return path;
    },
    clearPlace: (place, force) => clear(pathOf(place), force),
    sweep: () => sweepOwn(baseFolder),
  };
}

async function clear(path: string, force: boolean): Promise<void> {
  if (await isMounted(path)) {
    const result = await run('fusermount3', ['-u', path], { okExitCodes: [0, 1] });
    if (result.exitCode !== 0) {
      if (!force) throw new SendenseError('MOUNT_BUSY', { mount: path, detail: result.stderr.trim() });
      await run('fusermount3', ['-uz', path], { okExitCodes: [0, 1] });
    }
  }
  for (const folder of [path, dirname(path)])
    await rmdir(folder).catch((error: unknown) => {
      if (!['ENOENT', 'ENOTEMPTY', 'EEXIST'].includes(errnoOf(error) ?? '')) throw error;
    });
}

const isMounted = async (path: string) =>
  (await readMountTable()).some(({ mountPoint }) => mountPoint === path);

async function sweepOwn(baseFolder: string): Promise<SweepResult> {
  const left = (await readMountTable()).filter(({ mountPoint }) => mountPoint.startsWith(`${baseFolder}/`));
  for (const { mountPoint } of left.toReversed()) await clear(mountPoint, true);
  for (const session of await readdir(baseFolder).catch(() => []))
    for (const key of await readdir(join(baseFolder, session)).catch(() => []))
      await rmdir(join(baseFolder, session, key)).catch(() => undefined);
  return { mounts: left.length, devices: 0 };
}
