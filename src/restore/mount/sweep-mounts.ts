import { existsSync } from 'node:fs';
import { readdir, realpath, rm, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from '../../base/logger.ts';
import { run } from '../../base/process.ts';
import { messageOf } from '../../base/sendense-error.ts';
import { detachLoop, type LoopDevice, listLoops } from '../disk/loop-device.ts';
import { readExposed, removeEmpty } from './expose-folder.ts';
import { type MountTableEntry, readMountTable } from './mount-table.ts';

export interface SweepDeps {
  readonly logger: Logger;
  readonly runFolder: string;
  readonly mountFolder: string;
}

/** How many of each were removed. */
export interface SweepResult {
  readonly mounts: number;
  readonly loops: number;
  readonly folders: number;
}

/**
 * Removes what a killed daemon left: mounts, loop devices, dead FUSE files and folders. Only touches its own two
 * folders, and other places only where one of its own loop devices is mounted. To be called at start, after the
 * old daemon's processes have ended and before anything is mounted.
 */
export async function sweepMounts(deps: SweepDeps): Promise<SweepResult> {
  const mountFolder = await realpath(deps.mountFolder).catch(() => null);
  const sessionsFolder = await realpath(join(deps.runFolder, 'mounts')).catch(() => null);
  const ours = [mountFolder, sessionsFolder].filter((folder) => folder !== null);
  const isOurs = (path: string) => ours.some((folder) => path.startsWith(`${folder}/`));

  const table = await readMountTable();
  const loops = ownLoops(await loopsOrNone(), table, isOurs);
  const devices = new Set(loops.map(({ device }) => device));
  const left = table.filter(({ mountPoint, source }) => isOurs(mountPoint) || devices.has(source));
  // what was mounted last lies on top and goes first
  for (const { mountPoint } of left.toReversed()) await unmountLeftover(mountPoint);
  for (const device of devices) {
    await detachLoop(device, { force: false }).catch((error: unknown) => {
      deps.logger.warn({ device, error: messageOf(error) }, 'a leftover loop device is still in use');
    });
  }
  const folders = (await removeSessions(deps, sessionsFolder)) + (await removeMountpoints(mountFolder));
  return { mounts: left.length, loops: devices.size, folders };
}

/** Loops on a file of ours, and loops mounted in our folder that lost their file or lie above `/dev/nbdN`. */
function ownLoops(
  loops: readonly LoopDevice[],
  table: readonly MountTableEntry[],
  isOurs: (path: string) => boolean,
): LoopDevice[] {
  const mountedHere = new Set(
    table.filter(({ mountPoint }) => isOurs(mountPoint)).map(({ source }) => source),
  );
  return loops.filter(({ device, backingFile }) => {
    if (isOurs(backingFile)) return true;
    return mountedHere.has(device) && (/^\/dev\/nbd\d+$/.test(backingFile) || !existsSync(backingFile));
  });
}

/** A machine without loop devices has none to sweep. */
async function loopsOrNone(): Promise<LoopDevice[]> {
  return existsSync('/dev/loop-control') ? await listLoops() : [];
}

/** A FUSE file whose daemon is dead ("Transport endpoint is not connected") only goes lazily. */
async function unmountLeftover(path: string): Promise<void> {
  const result = await run('umount', ['-i', path], { okExitCodes: [0, 1, 32] });
  if (result.exitCode !== 0) await run('umount', ['-i', '-l', path], { okExitCodes: [0, 1, 32] });
}

async function removeSessions(deps: SweepDeps, sessionsFolder: string | null): Promise<number> {
  if (sessionsFolder === null) return 0;
  const still = (await readMountTable()).map(({ mountPoint }) => mountPoint);
  let removed = 0;
  for (const name of await readdir(sessionsFolder)) {
    const folder = join(sessionsFolder, name);
    if (still.some((mountPoint) => mountPoint.startsWith(`${folder}/`))) {
      deps.logger.warn({ folder }, 'something is still mounted in the folder of an old mount; it stays');
      continue;
    }
    for (const exposed of await readExposed(folder)) {
      await removeEmpty(exposed).catch((error: unknown) => {
        deps.logger.warn({ folder: exposed, error: messageOf(error) }, 'the folder of an old mount stays');
      });
    }
    await rm(folder, { recursive: true, force: true });
    removed += 1;
  }
  return removed;
}

/** Only ever removes empty folders: were a guest still mounted there, nothing of it could be lost. */
async function removeMountpoints(mountFolder: string | null): Promise<number> {
  if (mountFolder === null) return 0;
  let removed = 0;
  for (const session of await readdir(mountFolder, { withFileTypes: true })) {
    if (!session.isDirectory()) continue;
    const folder = join(mountFolder, session.name);
    for (const key of await readdir(folder)) await rmdir(join(folder, key)).catch(() => undefined);
    removed += await rmdir(folder).then(
      () => 1,
      () => 0,
    );
  }
  return removed;
}
