import { copyFileSync, existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { sh } from '../support/guest-disk.ts';
import { Operator } from '../support/operator.ts';
import { RandomDisk } from '../support/random-disk.ts';

interface Plan {
  plan_id: string;
  deletes: number;
  freed_bytes: number;
  merged_bytes: number;
  machines: {
    vm_name: string;
    deletes_last_good: boolean;
    points: { backup_id: string; action: string; reason: string; chain: string[] }[];
  }[];
}

let work: string;
let appliance: TestAppliance;
let operator: Operator;
let disks: Map<string, RandomDisk>;

beforeEach(async () => {
  work = mkdtempSync(join(tmpdir(), 'sd-prune-'));
  appliance = new TestAppliance();
  operator = new Operator(appliance);
  disks = new Map();
  await appliance.start(['exports.backend=storage-daemon']);
});
afterEach(async () => {
  await appliance.dispose();
  rmSync(work, { recursive: true, force: true });
});

function machine(name: string, count: number): string[] {
  const disk = new RandomDisk(join(work, name), 16);
  disks.set(name, disk);
  appliance.json('vm', 'add', name, '--disk', disk.path);
  return Array.from({ length: count }, () => point(name));
}
function point(name: string): string {
  disks.get(name)?.write(3);
  const { backup_id } = operator.backUp(name);
  copyFileSync(disks.get(name)?.path ?? '', join(work, backup_id));
  return backup_id;
}
const plan = (...rules: string[]) => appliance.json<Plan>('prune', 'plan', ...rules);
const ids = () => operator.backups().map(({ backup_id }) => backup_id);
const actions = (made: Plan, action: string) =>
  made.machines.flatMap(({ points }) =>
    points.filter((shown) => shown.action === action).map(({ backup_id }) => backup_id),
  );

it('shows what goes and why, then deletes exactly that; what stays is bit for bit what it was', async () => {
  const a = machine('a', 5);
  const b = machine('b', 2);
  const made = plan('--keep-last', '2');
  expect(made.deletes).toBe(3);
  expect(actions(made, 'delete').toSorted()).toEqual(a.slice(0, 3).toSorted());
  for (const { points } of made.machines)
    for (const shown of points) {
      expect(shown.reason).not.toBe('');
      expect(shown.chain.length).toBe(shown.action === 'delete' ? 1 : 0);
    }
  expect(ids()).toHaveLength(7); // planning deletes nothing
  const dry = appliance.json<{ job_id: null; deletes: string[] }>(
    'prune',
    'apply',
    '--plan',
    made.plan_id,
    '--dry-run',
  );
  expect(dry).toMatchObject({ job_id: null });
  expect(ids()).toHaveLength(7);
  const job = appliance.json<{ result: { deleted: string[]; steps: number; postponed: string[] } }>(
    ...['prune', 'apply', '--plan', made.plan_id, '--wait'],
  );
  expect(job.result).toMatchObject({ steps: 1, postponed: [] });
  expect(job.result.deleted.toSorted()).toEqual(a.slice(0, 3).toSorted());
  const left = [...a.slice(3), ...b];
  expect(ids().toSorted()).toEqual(left.toSorted());
  for (const id of left) operator.expectRestored(id, 0, join(work, id));
  // a plan is applied once
  const again = appliance.ctl('prune', 'apply', '--plan', made.plan_id);
  expect(again.code).toBe(13);
  expect(again.stderr).toContain('PLAN_STALE');
});

it('refuses a plan when the world has changed', () => {
  const [first = ''] = machine('a', 3);
  const byBackup = plan('--keep-last', '1');
  point('a');
  expect(appliance.ctl('prune', 'apply', '--plan', byBackup.plan_id).stderr).toContain('PLAN_STALE');
  const byPin = plan('--keep-last', '1');
  appliance.json('backup', 'pin', first, '--reason', 'audit');
  expect(appliance.ctl('prune', 'apply', '--plan', byPin.plan_id).stderr).toContain('PLAN_STALE');
  expect(appliance.ctl('prune', 'apply', '--plan', 'plan-x').code).toBe(10);
  expect(ids()).toHaveLength(4);
});

it('never touches a pinned point until its pin ends, also when the catalogue is lost', async () => {
  const [first = '', second = ''] = machine('a', 3);
  const pin = appliance.json<{ pin_id: string }>('backup', 'pin', first, '--reason', 'audit 2027');
  const soon = new Date(Date.now() + 86_400_000).toISOString();
  appliance.json('backup', 'pin', second, '--reason', 'a day', '--until', soon);
  expect(appliance.ctl('backup', 'pin', first, '--reason', 'x', '--until', '2020-01-01').code).toBe(2);
  expect(actions(plan('--keep-last', '1'), 'delete')).toEqual([]);
  const refused = appliance.ctl('backup', 'delete', first, '--merge');
  expect(refused.code).toBe(13);
  expect(refused.stderr).toContain('audit 2027');
  await appliance.stop();
  for (const suffix of ['', '-wal', '-shm'])
    rmSync(join(appliance.home, 'state', `catalog.db${suffix}`), { force: true });
  await appliance.start(['exports.backend=storage-daemon']);
  expect(actions(plan('--keep-last', '1'), 'delete')).toEqual([]);
  expect(appliance.ctl('backup', 'unpin', first, '--pin', 'pin-none').code).toBe(10);
  appliance.json('backup', 'unpin', first, '--pin', pin.pin_id);
  expect(actions(plan('--keep-last', '1'), 'delete')).toEqual([first]);
});

it('refuses to delete the last good point of a machine unless forced', async () => {
  const [only = ''] = machine('a', 1);
  await appliance.stop();
  const manifest = sh('find', join(appliance.home, 'backups'), '-name', `${only}.json`).trim();
  sh('sed', '-i', 's/"completed_at": "20[0-9][0-9]/"completed_at": "2019/', manifest);
  rmSync(join(appliance.home, 'state'), { recursive: true });
  await appliance.start(['exports.backend=storage-daemon']);
  const made = plan('--keep-within', '1y');
  expect(made.machines).toMatchObject([{ vm_name: 'a', deletes_last_good: true }]);
  for (const more of [[], ['--dry-run']]) {
    const refused = appliance.ctl('prune', 'apply', '--plan', made.plan_id, ...more);
    expect(refused.code).toBe(13);
    expect(refused.stderr).toContain('PRUNE_LAST_GOOD');
  }
  expect(ids()).toEqual([only]);
  appliance.json('prune', 'apply', '--plan', made.plan_id, '--force', '--wait');
  expect(ids()).toEqual([]);
});

it('never counts a damaged point, so that the good one before it stays', () => {
  const [good = '', damaged = ''] = machine('a', 2);
  const layer = sh('find', join(appliance.home, 'backups'), '-name', 'incr-*.qcow2').trim();
  sh('truncate', '-s', '-65536', layer);
  const full = point('a'); // finds the damage and goes full
  appliance.json('backup', 'delete', full);
  const made = plan('--keep-last', '1');
  expect(actions(made, 'keep')).toContain(good);
  const [machineA] = made.machines;
  expect(machineA?.points.find(({ backup_id }) => backup_id === damaged)?.reason).toContain('damaged');
});

it('refuses what is mounted or being read, and deletes nothing then', () => {
  const [first = ''] = machine('a', 2);
  sh('mkfs.ext4', '-q', '-F', disks.get('a')?.path ?? '');
  const { backup_id } = operator.backUp('a');
  appliance.json('backup', 'mount', '--backup-id', backup_id);
  appliance.json('vm', 'list');
  point('a');
  const made = plan('--keep-last', '1');
  const refused = appliance.ctl('prune', 'apply', '--plan', made.plan_id);
  expect(refused.code).toBe(11);
  expect(refused.stderr).toContain('BACKUP_BUSY');
  expect(ids()).toContain(first);
  expect(ids()).toHaveLength(4);
});

it('says what is wrong with rules and times', () => {
  machine('a', 1);
  for (const [args, text] of [
    [['--daily', '0'], 'daily'],
    [['--keep-within', '6m'], '6mo'],
    [['--time-zone', 'Mars/Base', '--daily', '7'], 'time zone'],
    [['--daily', 'seven'], 'count'],
    [['--vm', 'nobody', '--daily', '7'], 'nobody'],
    [['--repository', 'nowhere', '--daily', '7'], 'nowhere'],
  ] as const) {
    const refused = appliance.ctl('prune', 'plan', ...args);
    expect([2, 10]).toContain(refused.code);
    expect(refused.stderr).toContain(text);
  }
  expect(existsSync(disks.get('a')?.path ?? '')).toBe(true);
  // no rule at all keeps everything
  expect(plan().deletes).toBe(0);
});
