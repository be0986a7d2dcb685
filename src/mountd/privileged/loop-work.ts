import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from '../../base/process/run.ts';
import { SendenseError } from '../../base/sendense-error.ts';

const DETACH_TIMEOUT_MS = 5_000;
/** 4 MiB */
const READ_AHEAD_SECTORS = '8192';

/** A loop device as `losetup` lists it. */
export interface LoopDevice {
  readonly device: string;
  /** Path of the file below, without the kernel's mark for a deleted one. */
  readonly backingFile: string;
}

/**
 * Shows part of a disk as a block device. The slice is cut here and not by the kernel's partition scan, which
 * many kernels lack and which leaves nodes behind.
 * @returns the path of the loop device
 * @throws TOOL_FAILED
 */
export async function attachLoop(diskPath: string, offsetBytes: number, sizeBytes: number): Promise<string> {
  // writable: journal replay must be able to write to the overlay below
  // not with --direct-io=on, which is faster: the replay of an XFS journal came out wrong with it (ADR 0096)
  const args = ['-f', '--show', '-o', String(offsetBytes), '--sizelimit', String(sizeBytes), diskPath];
  const device = (await run('losetup', args)).stdout.trim();
  // each request goes to the storage daemon and back: few large ones are much quicker than many small ones
  await run('blockdev', ['--setra', READ_AHEAD_SECTORS, device]).catch(() => undefined);
  return device;
}

/**
 * Detaches and waits until the kernel has let go: `losetup -d` returns at once also while the device is in use.
 * Forced, a device in use is left to the kernel, which detaches it when its last user ends.
 * @throws MOUNT_BUSY
 */
export async function detachLoop(device: string, force: boolean): Promise<void> {
  await run('losetup', ['-d', device], { okExitCodes: [0, 1] });
  if (force) return;
  const deadline = Date.now() + DETACH_TIMEOUT_MS;
  while ((await backingFileOf(device)) !== null) {
    if (Date.now() > deadline)
      throw new SendenseError('MOUNT_BUSY', { mount: device, detail: 'the loop device is still in use' });
    await sleep(10);
  }
}

/** Null when nothing is attached. */
export async function backingFileOf(device: string): Promise<string | null> {
  const name = device.replace('/dev/', '');
  return await readFile(`/sys/block/${name}/loop/backing_file`, 'utf8').then(
    (text) => withoutMark(text.trimEnd()),
    () => null,
  );
}

/** True when the file below has gone, with its storage daemon: a cut-off mount shows itself as `/`. */
export const isGone = (backingFile: string): boolean => backingFile === '/' || !existsSync(backingFile);

/** A machine without loop devices has none. */
export async function listLoops(): Promise<LoopDevice[]> {
  if (!existsSync('/dev/loop-control')) return [];
  const { stdout } = await run('losetup', ['-l', '-J', '-O', 'NAME,BACK-FILE']);
  if (stdout.trim() === '') return [];
  const listed = JSON.parse(stdout) as {
    readonly loopdevices: readonly { readonly name: string; readonly 'back-file': string | null }[];
  };
  return listed.loopdevices.map((entry) => ({
    device: entry.name,
    backingFile: withoutMark(entry['back-file'] ?? ''),
  }));
}

const withoutMark = (path: string) => path.replace(/ ?\(deleted\)$/, '');
