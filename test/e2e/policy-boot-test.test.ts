import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { IDLE, makeBootableDisk } from '../support/boot-guest.ts';
import { sh } from '../support/guest-disk.ts';
import { expectFailure, Operator, until } from '../support/operator.ts';

const work = mkdtempSync(join(tmpdir(), 'sd-pboot-'));
const file = (name: string) => join(work, name);
const appliance = new TestAppliance();
const operator = new Operator(appliance);

interface Run {
  run_id: number;
  kind: string;
  started_by: string;
  outcome: string | null;
  missed: number;
  tasks: { vm_name: string; status: string; detail: string; job_id: string | null }[];
}
interface Machine {
  vm_name: string;
  boot_test: { backup_id: string; outcome: string; reason: string } | null;
  problems: { problem: string; severity: string; detail: string }[];
}
const runs = () => appliance.json<{ runs: Run[] }>('policy', 'runs').runs;
const machine = (name: string): Machine | undefined =>
  (
    JSON.parse(appliance.rest('GET', '/api/v1/coverage?all=true').body) as { machines: Machine[] }
  ).machines.find(({ vm_name }) => vm_name === name);
const newest = (vm: string) => operator.backups('--vm', vm)[0]?.backup_id ?? '';

beforeAll(async () => {
  makeBootableDisk(file('up.img'), `echo "up since $(cat /proc/uptime)" >/dev/ttyS0\n${IDLE}`);
  writeFileSync(file('empty.img'), '');
  truncateSync(file('empty.img'), 4 * 1024 * 1024);
  await appliance.start(['exports.backend=storage-daemon']);
  for (const vm of ['up', 'empty']) appliance.json('vm', 'add', vm, '--disk', file(`${vm}.img`));
  const policies = ['up', 'empty'].map((name) => ({
    ...{ name, machines: { names: [name] }, schedule: 'daily at 22:00' },
    boot_test: {
      ...{ schedule: 'every 1h', memory_mib: 256, timeout_s: name === 'up' ? 90 : 8 },
      ...(name === 'up' ? { expect_serial: '^up since [0-9]' } : {}),
    },
  }));
  writeFileSync(file('policies.json'), JSON.stringify({ policies }));
  expect(appliance.ctl('policy', 'apply', '-f', file('policies.json')).code).toBe(0);
  for (const vm of ['up', 'empty']) operator.backUp(vm, 'full');
}, 60_000);
afterAll(async () => {
  expect(appliance.processes('sendense-boot-test')).toEqual([]);
  await appliance.dispose();
  rmSync(work, { recursive: true, force: true });
});

it('boots the newest restore point of each machine when that is due, and tells what came of it', async () => {
  await appliance.stop();
  // as if the schedules had held for some hours without a daemon
  for (const name of ['up', 'empty']) {
    const path = join(appliance.home, 'state', 'policies', `${name}.json`);
    const stored = JSON.parse(readFileSync(path, 'utf8')) as { since: Record<string, string> };
    stored.since['boot-test'] = new Date(Date.now() - 5 * 3_600_000).toISOString();
    writeFileSync(path, JSON.stringify(stored));
  }
  const before = sh(
    'sh',
    '-c',
    `cd '${join(appliance.home, 'backups')}' && find . -name '*.qcow2' | sort | xargs sha256sum`,
  );
  await appliance.start(['exports.backend=storage-daemon']);
  const ended = () => runs().filter(({ kind, outcome }) => kind === 'boot-test' && outcome !== null);
  await until('both have been booted', () => ended().length === 2);
  const outcomes = ended().map(({ run_id }) => {
    const { started_by, outcome, missed, tasks } = appliance.json<Run>(
      'policy',
      'runs',
      '--run',
      String(run_id),
    );
    expect(started_by).toBe('schedule');
    expect(missed).toBeGreaterThanOrEqual(3);
    return [tasks[0]?.vm_name, outcome, tasks[0]?.status];
  });
  expect(outcomes.toSorted()).toEqual([
    ['empty', 'failed', 'failed'],
    ['up', 'completed', 'completed'],
  ]);
  expect(
    sh(
      'sh',
      '-c',
      `cd '${join(appliance.home, 'backups')}' && find . -name '*.qcow2' | sort | xargs sha256sum`,
    ),
  ).toBe(before);
});

it('is not an alarm where the machine came up, with its line on the serial console as evidence', () => {
  expect(machine('up')).toMatchObject({
    boot_test: { backup_id: newest('up'), outcome: 'passed' },
    problems: [{ problem: 'never_verified', severity: 'notice' }],
  });
  const { tests } = appliance.json<{ tests: { folder: string; met: { condition: string }[] }[] }>(
    ...['restore', 'tests', '--backup-id', newest('up')],
  );
  expect(tests[0]?.met.map(({ condition }) => condition)).toEqual(['serial']);
  expect(readFileSync(join(tests[0]?.folder ?? '', 'serial.log'), 'utf8')).toMatch(/^up since \d/m);
});

it('is an alarm in status where nothing came up, until a test passes', async () => {
  expect(machine('empty')).toMatchObject({
    boot_test: {
      backup_id: newest('empty'),
      outcome: 'failed',
      reason: expect.stringContaining('nothing to boot'),
    },
    problems: expect.arrayContaining([
      { problem: 'boot_failed', severity: 'alarm', detail: expect.stringContaining('did not come up') },
    ]),
  });
  const status = appliance.ctl('status');
  expectFailure(status, 'ATTENTION_NEEDED', 4);
  expect(status.stdout).toMatch(/empty +boot_failed +alarm +backup-empty-/);
  expect(status.stderr).toContain('1 boot failed');
  expect(
    operator.events('policy.run.failed').some(({ message }) => message.includes('BOOT_TEST_FAILED')),
  ).toBe(true);

  // the machine is put right, backed up, and booted again by its policy
  sh('cp', file('up.img'), file('empty.img'));
  operator.backUp('empty', 'full');
  appliance.rest('PATCH', '/api/v1/policies/empty', {
    boot_test: { schedule: 'every 1h', memory_mib: 256, timeout_s: 90, expect_serial: '^up since' },
  });
  expect(appliance.ctl('policy', 'run', 'empty', '--kind', 'boot-test', '--wait').code).toBe(0);
  expect(machine('empty')?.boot_test).toMatchObject({ backup_id: newest('empty'), outcome: 'passed' });
  const well = appliance.ctl('status', '--all');
  expect(well.code).toBe(0);
  expect(well.stdout).not.toContain('boot_failed');
});
