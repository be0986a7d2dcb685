import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { freePort, TestAgent } from '../support/agent.ts';
import { TestAppliance } from '../support/appliance.ts';
import { startLink } from '../support/far-link.ts';
import { sh } from '../support/guest-disk.ts';
import { Operator, until } from '../support/operator.ts';
import { RandomDisk } from '../support/random-disk.ts';

/** An agent at the end of a long and bad way. */
const FAR = '127.0.0.3';
const work = mkdtempSync(join(tmpdir(), 'sd-far-'));
const appliance = new TestAppliance();
const operator = new Operator(appliance);
const agent = new TestAgent(appliance, 'far');
let link: { stop: () => Promise<void> };
let ports: number[] = [];

const startFarLink = () =>
  startLink({ from: FAR, to: '127.0.0.1', ports, delayMs: 40, mibPerSecond: null, lossEveryMib: 4 });

beforeAll(async () => {
  const [port, sshPort, data] = [await freePort(), await freePort(), await freePort()];
  ports = [port, sshPort, data, data + 1, data + 2, data + 3];
  await appliance.start([
    'exports.backend=storage-daemon',
    `agents.listen=127.0.0.1:${port}`,
    `agents.ssh_listen=127.0.0.1:${sshPort}`,
    `agents.data_ports=${data}-${data + 3}`,
  ]);
  link = await startFarLink();
  agent.enroll(`${FAR}:${port}`, [work]);
  await agent.start();
});
afterAll(async () => {
  await agent.dispose();
  await appliance.dispose();
  await link.stop();
  rmSync(work, { recursive: true, force: true });
});

it.each(['tls', 'ssh'])('is backed up over %s with 80 ms and losses, bit for bit', (way) => {
  appliance.json('agent', 'set', 'far', '--data-way', way);
  const disk = new RandomDisk(join(work, `${way}.img`), 12, way.length);
  appliance.json('vm', 'add', way, '--agent', 'far', '--disk', disk.path);
  for (const type of ['full', 'incremental']) {
    disk.write(2);
    const { backup_id } = operator.backUp(way, type);
    copyFileSync(disk.path, join(work, 'as-it-was.img'));
    operator.expectRestored(backup_id, 0, join(work, 'as-it-was.img'));
  }
});

it('goes on when the whole way is cut for a while, control and data', async () => {
  const disk = join(work, 'cut.img');
  sh('dd', 'if=/dev/urandom', `of=${disk}`, 'bs=1M', 'count=32', 'status=none');
  appliance.json('agent', 'set', 'far', '--data-way', 'tls', '--rate', '8MiB');
  appliance.json('vm', 'add', 'cut', '--agent', 'far', '--disk', disk);
  const started = appliance.json<{ job_id: string; backup_id: string }>(
    ...['backup', 'start', '--vm', 'cut', '--type', 'full'],
  );
  const job = () => operator.job(started.job_id);
  await until('a part is there', () => job().progress.processed_bytes > 4 * 1024 * 1024);
  await link.stop();
  link = await startFarLink();
  await until('it ended', () => !['pending', 'running'].includes(job().status));
  expect(job().error).toBeNull();
  operator.expectRestored(started.backup_id, 0, disk);
});

it('keeps to the limit of its hour, and forgets it when it is lifted', () => {
  const disk = join(work, 'cut.img');
  const seconds = () => {
    sh('dd', 'if=/dev/urandom', `of=${disk}`, 'bs=1M', 'count=12', 'status=none', 'conv=notrunc');
    const start = performance.now();
    operator.backUp('cut', 'full');
    return (performance.now() - start) / 1000;
  };
  appliance.json(
    'agent',
    'set',
    'far',
    '--rate',
    'none',
    '--window',
    '00:00-23:59=8MiB',
    '--window',
    '23:59-00:00=8MiB',
  );
  // 32 MiB at 8 MiB/s
  expect(seconds()).toBeGreaterThan(3.5);
  appliance.json('agent', 'set', 'far', '--no-windows');
  expect(seconds()).toBeLessThan(30);
});
