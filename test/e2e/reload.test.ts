import { mkdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { Operator, type ShownJob } from '../support/operator.ts';

interface LogLine {
  msg: string;
  settings?: string[];
  taken_over?: string[];
  error?: string;
}

let appliance: TestAppliance;
let operator: Operator;
let reloads: number;

beforeEach(() => {
  appliance = new TestAppliance();
  operator = new Operator(appliance);
  reloads = 0;
  mkdirSync(join(appliance.home, 'etc'));
});
afterEach(async () => {
  await appliance.stop();
  rmSync(appliance.home, { recursive: true, force: true });
});

const write = (...lines: string[]) =>
  writeFileSync(join(appliance.home, 'etc', 'sendense.toml'), `${lines.join('\n')}\n`);
const said = (): LogLine[] =>
  readFileSync(appliance.logFile, 'utf8')
    .split('\n')
    .flatMap((line) => (line.startsWith('{') ? [JSON.parse(line) as LogLine] : []))
    .filter(({ msg }) => msg.startsWith('reloaded') || msg.includes('those of before stay'));
const shown = (key: string) =>
  appliance
    .json<{ settings: { key: string; value: unknown; origin: string }[] }>('config', 'show', '--origin')
    .settings.find((setting) => setting.key === key);

/** What the log says of it. */
async function reload(): Promise<LogLine> {
  process.kill(appliance.pid, 'SIGHUP');
  reloads += 1;
  for (let round = 0; round < 400 && said().length < reloads; round += 1) await sleep(25);
  const [line] = said().slice(reloads - 1);
  if (line === undefined) throw new Error(`nothing was said of the reload: ${appliance.log()}`);
  return line;
}

async function statusOf(id: string, wanted: string): Promise<void> {
  for (let round = 0; round < 200 && operator.job(id).status !== wanted; round += 1) await sleep(50);
  expect(operator.job(id).status).toBe(wanted);
}

function backUpSlowly(name: string): string {
  const disk = join(appliance.home, `${name}.img`);
  writeFileSync(disk, name);
  truncateSync(disk, 1024 * 1024);
  appliance.json('vm', 'add', name, '--disk', disk, '--before', 'sleep 60; true');
  return appliance.json<ShownJob>('backup', 'start', '--vm', name).job_id;
}

it('a job that waits begins when there may be more of them', async () => {
  write('[exports]', 'backend = "storage-daemon"', '[jobs]', 'max_concurrent = 1');
  await appliance.start();
  const [first, second] = [backUpSlowly('a'), backUpSlowly('b')];
  await statusOf(first, 'running');
  await sleep(500);
  expect(operator.job(second).status).toBe('pending');

  write('[exports]', 'backend = "storage-daemon"', '[jobs]', 'max_concurrent = 2');
  expect(await reload()).toMatchObject({ msg: 'reloaded', taken_over: ['jobs.max_concurrent'] });
  await statusOf(second, 'running');
  expect(operator.job(first).status).toBe('running');
  for (const id of [first, second]) appliance.ctl('job', 'cancel', id);
});

it('rules of retention come and go, wrong ones change nothing', async () => {
  write('[exports]', 'backend = "storage-daemon"');
  await appliance.start();
  const disk = join(appliance.home, 'a.img');
  writeFileSync(disk, 'a');
  truncateSync(disk, 1024 * 1024);
  appliance.json('vm', 'add', 'a', '--disk', disk);
  for (let count = 0; count < 3; count += 1) operator.backUp('a', 'full');
  const removed = () => appliance.json<{ deletes: number }>('prune', 'plan').deletes;
  expect(removed()).toBe(0);

  write('[exports]', 'backend = "storage-daemon"', '[retention]', 'keep_last = 2');
  expect((await reload()).taken_over).toEqual(['retention.keep_last']);
  expect(removed()).toBe(1);

  write(
    '[exports]',
    'backend = "storage-daemon"',
    '[retention]',
    'keep_last = 1',
    'time_zone = "Nowhere/Else"',
  );
  expect((await reload()).error).toContain('time_zone');
  expect(removed()).toBe(1);

  write('[exports]', 'backend = "storage-daemon"');
  expect((await reload()).taken_over).toEqual(['retention.keep_last']);
  expect(removed()).toBe(0);
});

it('what waits for a restart is named each time, and the settings shown are those in use', async () => {
  write('[exports]', 'backend = "storage-daemon"', '[repository]', 'poll_s = 2', '[mounts]', 'max = 3');
  await appliance.start();
  write('[exports]', 'backend = "nbd-server"', '[repository]', 'poll_s = 7', '[mounts]', 'max = 4');
  for (const taken of [['mounts.max'], []])
    expect(await reload()).toMatchObject({
      msg: 'reloaded; these settings wait for a restart',
      settings: ['exports.backend', 'repository.poll_s'],
      taken_over: taken,
    });
  expect(shown('mounts.max')).toEqual({ key: 'mounts.max', value: 4, origin: 'file' });
  expect(shown('repository.poll_s')).toEqual({ key: 'repository.poll_s', value: 2, origin: 'file' });

  write('[exports]', 'backend = "storage-daemon"', '[repository]', 'poll_s = 2');
  expect(await reload()).toMatchObject({ msg: 'reloaded', taken_over: ['mounts.max'] });
  expect(shown('mounts.max')).toEqual({ key: 'mounts.max', value: 16, origin: 'default' });
});

it('the next backup goes by the new depth of chains', async () => {
  const rest = ['[exports]', 'backend = "storage-daemon"', '[chain]', 'consolidate = false'];
  write(...rest);
  await appliance.start();
  const disk = join(appliance.home, 'a.img');
  writeFileSync(disk, 'a');
  truncateSync(disk, 1024 * 1024);
  appliance.json('vm', 'add', 'a', '--disk', disk);
  for (const type of ['full', 'incremental', 'incremental'])
    expect(operator.backUp('a').disks[0]?.backup_type).toBe(type);
  write(...rest, 'max_depth = 3');
  expect((await reload()).taken_over).toEqual(['chain.max_depth']);
  expect(operator.backUp('a').disks[0]).toMatchObject({
    backup_type: 'full',
    reason: expect.stringContaining('the limit is 3'),
  });
});
