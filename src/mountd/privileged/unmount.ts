import { setTimeout as sleep } from 'node:timers/promises';
import { run } from '../../base/process/run.ts';
import { SendenseError } from '../../base/sendense-error.ts';

const BUSY_RETRIES = 10;
const BUSY_DELAY_MS = 20;
/** umount(8): the unmount itself failed. */
const FAILED = 32;

/**
 * Unmounts one place. Absent is fine.
 * @throws MOUNT_BUSY while a program uses it, unless forced: then it is only cut off from the folder tree
 */
export async function unmount(path: string, force: boolean): Promise<void> {
  for (let attempt = 0; ; attempt += 1) {
    const result = await run('umount', ['-i', '-c', path], { okExitCodes: [0, 1, FAILED] });
    if (result.exitCode === 0 || /not mounted|no mount point|not found/.test(result.stderr)) return;
    if (!/busy/.test(result.stderr))
      throw new SendenseError('MOUNT_BUSY', { mount: path, detail: result.stderr.trim() });
    // udev and the like look into new mounts for a moment
    if (attempt < BUSY_RETRIES) {
      await sleep(BUSY_DELAY_MS);
      continue;
    }
    if (!force)
      throw new SendenseError('MOUNT_BUSY', {
        mount: path,
        detail: 'a program has a file or folder of it open',
      });
    await cutOff(path);
    return;
  }
}

/** Takes it out of the folder tree whatever uses it, or although the program that served it is dead. */
export async function cutOff(path: string): Promise<void> {
  await run('umount', ['-i', '-c', '-l', path], { okExitCodes: [0, 1, FAILED] });
}
