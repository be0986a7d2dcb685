import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from '../../base/process/run.ts';
import { startDaemon } from '../../base/process/start-daemon.ts';
import { hasCode, messageOf, SendenseError } from '../../base/sendense-error.ts';

const GONE_TIMEOUT_MS = 10_000;
const READY_TIMEOUT_MS = 10_000;

/** Devices that this process is about to use; the kernel shows them as free until they are connected. */
const taken = new Set<string>();

export const kernelHasNbd = (): boolean => existsSync('/sys/module/nbd');

/**
 * Connects a free `/dev/nbdN` to an NBD server by a qemu-nbd that stays in the foreground (`-v`) and opens nothing but
 * that socket.
 * @returns the device, ready: its size is known
 * @throws MOUNT_FAILED, TOOL_FAILED
 */
export async function connectNbd(socket: string, exportName: string, logFile: string): Promise<string> {
  // the format is part of the graph: `--format` beside a `json:` name would ask for it a second time
  const target = {
    driver: 'raw',
    file: { driver: 'nbd', export: exportName, server: { type: 'unix', path: socket } },
  };
  for (const name of await freeDevices()) {
    if (taken.has(name)) continue;
    taken.add(name);
    const device = `/dev/${name}`;
    try {
      await startDaemon(
        'qemu-nbd',
        ['-v', `--connect=${device}`, '--cache=writeback', `json:${JSON.stringify(target)}`],
        {
          logFile,
          readyWhen: async () => existsSync(`/sys/block/${name}/pid`) && (await sizeOf(name)) > 0,
          readyTimeoutMs: READY_TIMEOUT_MS,
        },
      );
      await settle();
      return device;
    } catch (error) {
      // another program was faster; any other trouble is the same for the next device
      if (!hasCode(error, 'TOOL_FAILED') || !/busy|in use/i.test(messageOf(error))) throw error;
    } finally {
      taken.delete(name);
    }
  }
  const detail = kernelHasNbd() ? 'all /dev/nbd devices are in use' : 'the kernel has no nbd module';
  throw new SendenseError('MOUNT_FAILED', { detail });
}

/** Disconnecting finishes after `qemu-nbd -d` returned; a device used again too early gives I/O errors. */
export async function disconnectNbd(device: string): Promise<void> {
  const name = device.replace('/dev/', '');
  await settle();
  await run('qemu-nbd', ['-d', device], { okExitCodes: [0, 1] });
  const deadline = Date.now() + GONE_TIMEOUT_MS;
  while (!(await isFree(name))) {
    if (Date.now() > deadline)
      throw new SendenseError('MOUNT_BUSY', { mount: device, detail: 'it does not disconnect' });
    await sleep(10);
  }
  await settle();
}

/** Connected devices whose server's command line names the folder. */
export async function nbdDevicesOf(folder: string): Promise<string[]> {
  const found: string[] = [];
  for (const name of await allDevices()) {
    if ((await commandOf(name)).includes(`${folder}/`)) found.push(`/dev/${name}`);
  }
  return found;
}

export async function isNbdOf(device: string, folder: string): Promise<boolean> {
  return (await commandOf(device.replace('/dev/', ''))).includes(`${folder}/`);
}

async function commandOf(name: string): Promise<string> {
  const pid = (await readFile(`/sys/block/${name}/pid`, 'utf8').catch(() => '')).trim();
  return pid === '' ? '' : await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
}

/** udev opens a new device for a moment; who unmounts or disconnects meanwhile finds it busy. */
async function settle(): Promise<void> {
  if (existsSync('/run/udev/control'))
    await run('udevadm', ['settle', '--timeout=5'], { okExitCodes: [0, 1] });
}

async function allDevices(): Promise<string[]> {
  const names = (await readdir('/sys/block')).filter((name) => /^nbd\d+$/.test(name));
  return names.toSorted((a, b) => Number(a.slice(3)) - Number(b.slice(3)));
}

async function freeDevices(): Promise<string[]> {
  const names = await allDevices();
  const free = await Promise.all(names.map(isFree));
  return names.filter((_, index) => free[index]);
}

/** Both must hold: the pid goes first, the size a moment later. */
async function isFree(name: string): Promise<boolean> {
  return !existsSync(`/sys/block/${name}/pid`) && (await sizeOf(name)) === 0;
}

async function sizeOf(name: string): Promise<number> {
  return Number(await readFile(`/sys/block/${name}/size`, 'utf8').catch(() => '0'));
}
