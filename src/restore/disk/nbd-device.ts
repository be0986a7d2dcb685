import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type RunningDaemon, run, startDaemon } from '../../base/process.ts';
import { hasCode, SendenseError } from '../../base/sendense-error.ts';
import { asFilename } from '../../qemu/block-graph.ts';
import type { ShowDisk } from './disk-device.ts';

const GONE_TIMEOUT_MS = 5_000;

/** Devices that this process is about to use; the kernel shows them as free until they are connected. */
const taken = new Set<string>();

export function kernelHasNbd(): boolean {
  return existsSync('/sys/module/nbd');
}

/** The disk as `/dev/nbdN`, served by a qemu-nbd of its own that stays in the foreground (`-v`). */
export function showByKernelNbd(folder: string): ShowDisk {
  return async (undo, diskIndex, overlay) => {
    for (const name of await freeDevices()) {
      if (taken.has(name)) continue;
      taken.add(name);
      undo.push(`release ${name}`, async () => void taken.delete(name));
      const device = `/dev/${name}`;
      const args = ['-v', `--connect=${device}`, '--cache=writeback', asFilename(overlay)];
      try {
        const daemon = await startDaemon('qemu-nbd', args, {
          logFile: join(folder, `disk${diskIndex}-nbd.log`),
          readyWhen: async () => existsSync(`/sys/block/${name}/pid`) && (await sizeOf(name)) > 0,
        });
        undo.push(`disconnect ${device}`, () => disconnect(name, daemon));
        return device;
      } catch (error) {
        // another program was faster; any other trouble is the same for the next device
        if (!hasCode(error, 'TOOL_FAILED') || !/busy|in use/i.test(String(error))) throw error;
      }
    }
    throw new SendenseError('MOUNT_FAILED', { detail: 'all /dev/nbd devices are in use' });
  };
}

/** Disconnecting finishes after `qemu-nbd -d` returned; a device used again too early gives I/O errors. */
async function disconnect(name: string, daemon: RunningDaemon): Promise<void> {
  await run('qemu-nbd', ['-d', `/dev/${name}`], { okExitCodes: [0, 1] });
  await daemon.stop();
  const deadline = Date.now() + GONE_TIMEOUT_MS;
  while (!(await isFree(name))) {
    if (Date.now() > deadline)
      throw new SendenseError('MOUNT_BUSY', { mount: `/dev/${name}`, detail: 'it does not disconnect' });
    await sleep(10);
  }
}

async function freeDevices(): Promise<string[]> {
  const names = (await readdir('/sys/block')).filter((name) => /^nbd\d+$/.test(name));
  const free = await Promise.all(names.map(isFree));
  return names.filter((_, index) => free[index]).toSorted((a, b) => Number(a.slice(3)) - Number(b.slice(3)));
}

/** Both must hold: the pid goes first, the size a moment later. */
async function isFree(name: string): Promise<boolean> {
  return !existsSync(`/sys/block/${name}/pid`) && (await sizeOf(name)) === 0;
}

async function sizeOf(name: string): Promise<number> {
  return Number(await readFile(`/sys/block/${name}/size`, 'utf8').catch(() => '0'));
}
