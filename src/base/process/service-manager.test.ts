import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { createLogger } from '../logger.ts';
import { ServiceManager } from './service-manager.ts';

const logger = createLogger('error');
let folder: string;
let receiver: ChildProcess;
let heard: string[];

/** A service manager's end of the socket; it also closes the descriptors that systemd-notify waits for. */
const RECEIVER = `
import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print('listening', flush=True)
while True:
    data, fds, _, _ = socket.recv_fds(s, 4096, 4)
    for fd in fds: os.close(fd)
    print(data.decode().strip().replace('\\n', '|'), flush=True)
`;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'sd-notify-'));
  heard = [];
  receiver = spawn('python3', ['-c', RECEIVER, join(folder, 'socket')], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const lines = createInterface({ input: receiver.stdout ?? process.stdin });
  await once(lines, 'line');
  lines.on('line', (line) => {
    if (line !== 'BARRIER=1') heard.push(line);
  });
});
afterEach(async () => {
  receiver.kill('SIGKILL');
  await once(receiver, 'exit');
  rmSync(folder, { recursive: true, force: true });
});

const listening = (more: Record<string, string> = {}) => ({
  NOTIFY_SOCKET: join(folder, 'socket'),
  ...more,
});

it('says what it is told to say, and leaves no programs that are started the means to', async () => {
  const environment = listening({ PATH: '/bin' });
  const manager = new ServiceManager(logger, environment);
  expect(environment).toEqual({ PATH: '/bin' });
  await manager.tell('READY=1', 'STATUS=Waiting for: a restart');
  await expect.poll(() => heard).toEqual(['READY=1|STATUS=Waiting for: a restart']);
});

it('feeds the watchdog twice in each period, and not one of another process', async () => {
  new ServiceManager(logger, listening({ WATCHDOG_USEC: '200000', WATCHDOG_PID: '1' })).startWatchdog();
  await sleep(400);
  expect(heard).toEqual([]);
  const watched = listening({ WATCHDOG_USEC: '200000', WATCHDOG_PID: String(process.pid) });
  new ServiceManager(logger, watched).startWatchdog();
  await expect.poll(() => heard.length, { timeout: 5000 }).toBeGreaterThan(2);
  expect(new Set(heard)).toEqual(new Set(['WATCHDOG=1']));
});

it('goes on when nobody listens', async () => {
  await new ServiceManager(logger, {}).tell('READY=1');
  await new ServiceManager(createLogger('fatal'), { NOTIFY_SOCKET: join(folder, 'nobody') }).tell('READY=1');
  expect(heard).toEqual([]);
});
