import { readdir, realpath, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../base/process/run.ts';
import type { SweepResult } from '../privileged-work.ts';
import { detachLoop, isGone, type LoopDevice, listLoops } from './loop-work.ts';
import { type MountTableEntry, readMountTable } from './mount-table.ts';
import { disconnectNbd, nbdDevicesOf } from './nbd-work.ts';
import { cutOff } from './unmount.ts';

/**
 * Removes what a killed daemon left: mounts, devices, dead FUSE files and empty folders. Only touches the two folders,
 * and other places only where one of its own file systems is shown too.
 */
export async function sweepAll(baseFolder: string, imageFolder: string): Promise<SweepResult> {
  const base = await realpath(baseFolder).catch(() => null);
  const images = await realpath(imageFolder).catch(() => null);
  const ours = [base, images].filter((folder) => folder !== null);
  const isOurs = (path: string) => ours.some((folder) => path.startsWith(`${folder}/`));

  const table = await readMountTable();
  const shown = new Set(
    table
      .filter(({ mountPoint }) => base !== null && mountPoint.startsWith(`${base}/`))
      .map((entry) => entry.deviceNumber),
  );
  const loops = ownLoops(await listLoops(), table, isOurs);
  const devices = new Set(loops.map(({ device }) => device));
  const left = table.filter(
    ({ mountPoint, source, deviceNumber }) =>
      isOurs(mountPoint) || devices.has(source) || shown.has(deviceNumber),
  );
  // what was mounted last lies on top and goes first
  for (const { mountPoint } of left.toReversed()) await unmountLeftover(mountPoint);
  let freed = 0;
  const tryFreeing = async (work: Promise<void>) => {
    // one that is still in use is named by the next who needs it
    freed += await work.then(
      () => 1,
      () => 0,
    );
  };
  for (const device of devices) await tryFreeing(detachLoop(device, false));
  for (const device of images === null ? [] : await nbdDevicesOf(images))
    await tryFreeing(disconnectNbd(device));
  if (base !== null) await removeEmptyPlaces(base);
  return { mounts: left.length, devices: freed };
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
    return mountedHere.has(device) && (/^\/dev\/nbd\d+$/.test(backingFile) || isGone(backingFile));
  });
}

/** A FUSE file whose daemon is dead ("Transport endpoint is not connected") only goes lazily. */
async function unmountLeftover(path: string): Promise<void> {
  const result = await run('umount', ['-i', '-c', path], { okExitCodes: [0, 1, 32] });
  if (result.exitCode !== 0) await cutOff(path);
}

/** Only ever removes empty folders: were a guest still mounted there, nothing of it could be lost. */
async function removeEmptyPlaces(base: string): Promise<void> {
  for (const session of await readdir(base, { withFileTypes: true })) {
    if (!session.isDirectory()) continue;
    const folder = join(base, session.name);
    for (const key of await readdir(folder)) await rmdir(join(folder, key)).catch(() => undefined);
    await rmdir(folder).catch(() => undefined);
  }
}
