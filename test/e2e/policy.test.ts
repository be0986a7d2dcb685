import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { expectFailure, Operator, until } from '../support/operator.ts';
import { RandomDisk } from '../support/random-disk.ts';

interface ShownRun {
  run_id: number;
  kind: string;
  started_by: string;
  outcome: string | null;
  due_at: string;
  missed: number;
  counts: Record<string, number>;
  tasks?: { vm_name: string; status: string; attempts: number; job_id: string | null; detail: string }[];
}

let work: string;
let appliance: TestAppliance;
let operator: Operator;
const disks = new Map<string, RandomDisk>();

beforeAll(async () => {
  work = mkdtempSync(join(tmpdir(), 'sd-policy-'));
  appliance = new TestAppliance();
  operator = new Operator(appliance);
  await appliance.start(['exports.backend=storage-daemon']);
  for (const [name, label] of [
    ['web1', 'tier=gold'],
    ['web2', 'tier=gold'],
    ['db1', 'tier=silver'],
  ] as const) {
    const disk = new RandomDisk(join(work, name), 8);
    disk.write(2);
    disks.set(name, disk);
    appliance.json('vm', 'add', name, '--disk', disk.path, '--label', label);
  }
});
afterAll(async () => {
  await appliance.dispose();
  rmSync(work, { recursive: true, force: true });
});

const runs = (): ShownRun[] => appliance.json<{ runs: ShownRun[] }>('policy', 'runs').runs;
const file = (name: string, text: string): string => {
  const path = join(work, name);
  writeFileSync(path, text);
  return path;
};

it('chooses machines by label, backs them up on demand, and prunes by its retention afterwards', async () => {
  appliance.json('policy', 'add', 'gold', '--label', 'tier=gold', '--keep-last', '1', '--full', 'weekly');
  const done = appliance.ctl('backup', 'now', '--policy', 'gold', '--wait');
  expect([done.code, done.stderr]).toEqual([0, expect.stringContaining('2 of 2 done')]);
  expect(operator.backups().map(({ backup_id }) => backup_id.split('-')[1])).toEqual(
    expect.arrayContaining(['web1', 'web2']),
  );
  expect(operator.backups()).toHaveLength(2);
  disks.get('web1')?.write(1);
  expect(appliance.ctl('policy', 'run', 'gold', '--wait').code).toBe(0);
  await until('retention has left one of each', () => operator.backups().length === 2);
  await operator.idle();
  // the full of the week was there already, though retention has merged it into this one
  const [newest] = operator.backups('--vm', 'web1');
  const shown = appliance.json<{ backup_type: string }>('backup', 'show', newest?.backup_id ?? '');
  expect(shown.backup_type).toBe('incremental');
  operator.expectRestored(newest?.backup_id ?? '', 0, disks.get('web1')?.path ?? '');
  expect(runs().map(({ kind, started_by, outcome }) => `${kind} ${started_by} ${outcome}`)).toEqual([
    'prune after-backup completed',
    'backup operator completed',
    'prune after-backup completed',
    'backup operator completed',
  ]);
});

it('says with exit code 3 that a part failed, with each machine by name', () => {
  const gone = `${disks.get('web2')?.path}.away`;
  appliance.json('vm', 'add', 'lost1', '--disk', disks.get('db1')?.path ?? '', '--label', 'tier=lost');
  appliance.json('policy', 'add', 'mixed', '--vm', 'web1', '--vm', 'lost1');
  rmSync(gone, { force: true });
  const path = disks.get('db1')?.path ?? '';
  const content = readFileSync(path);
  rmSync(path);
  try {
    const partly = appliance.ctl('policy', 'run', 'mixed', '--wait');
    expectFailure(partly, 'POLICY_RUN_PARTLY', 3);
    expect(partly.stderr).toContain('lost1: SOURCE_MISSING');
    const [run] = runs();
    const shown = appliance.json<ShownRun>('policy', 'runs', '--run', String(run?.run_id));
    expect(shown.tasks?.map(({ vm_name, status }) => `${vm_name} ${status}`)).toEqual([
      'lost1 failed',
      'web1 completed',
    ]);
  } finally {
    writeFileSync(path, content);
    appliance.ctl('policy', 'remove', 'mixed');
    appliance.ctl('vm', 'remove', 'lost1');
  }
});

it('tells what is not protected, with exit code 4, and keeps quiet about what was left out on purpose', () => {
  interface Status {
    status: string;
    coverage: {
      ok: boolean;
      machines: { vm_name: string; problems: { problem: string; detail: string }[] }[];
    };
  }
  const status = (): string[] => {
    const shown = JSON.parse(appliance.rest('GET', '/api/v1/status').body) as Status;
    return shown.coverage.machines.flatMap(({ vm_name, problems }) =>
      problems.map(({ problem }) => `${vm_name} ${problem}`),
    );
  };
  appliance.json('vm', 'add', 'bare', '--disk', disks.get('db1')?.path ?? '');
  const asked = appliance.ctl('status');
  expectFailure(asked, 'ATTENTION_NEEDED', 4);
  expect(asked.stdout).toMatch(/bare +unprotected +alarm +no policy means it/);
  // it only runs when somebody asks
  expect(status()).toContain('web1 unprotected');
  appliance.json('policy', 'set', 'gold', '--schedule', 'daily at 23:00');
  expect(status()).not.toContain('web1 unprotected');
  expect(status()).toContain('web1 never_verified');
  for (const name of ['bare', 'db1'])
    appliance.json('vm', 'set', name, '--unprotected', 'made anew by a script');
  // what was not verified in the first weeks is no alarm
  const well = appliance.ctl('status', '--all');
  expect(well.code).toBe(0);
  expect(well.stdout).toMatch(/bare +excused +made anew by a script/);
  appliance.json('vm', 'set', 'db1', '--protected');
  expect(appliance.ctl('status').code).toBe(4);
  appliance.json('policy', 'run', 'gold', '--kind', 'verify', '--wait');
  expect(status()).not.toContain('web1 never_verified');
  appliance.json('vm', 'remove', 'bare');
});

it('tells a name of a machine that nobody has wherever the policy is looked at, and takes it', () => {
  const warning = 'warning: the policy typo names the machine "wbe1", which is not registered';
  const typo = file(
    'typo.yaml',
    'policies:\n  - { name: typo, machines: { names: [db1, wbe1], patterns: [nix*] } }\n',
  );
  for (const command of [
    ['policy', 'apply', '-f', typo, '--dry-run'],
    ['policy', 'apply', '-f', typo],
    ['policy', 'set', 'typo', '--priority', '60'],
    ['policy', 'show', 'typo'],
    ['policy', 'preview', 'typo'],
    ['policy', 'preview', 'typo', '-o', 'json'],
  ]) {
    const told = appliance.ctl(...command);
    expect([command, told.code, told.stderr]).toEqual([command, 0, expect.stringContaining(warning)]);
    expect(told.stderr).not.toContain('nix');
  }
  expect(appliance.ctl('status').stderr).toContain(warning);
  const absent = [{ what: 'machine', name: 'wbe1' }];
  expect(appliance.json('policy', 'show', 'typo')).toMatchObject({ absent });
  const { coverage } = JSON.parse(appliance.rest('GET', '/api/v1/status').body) as { coverage: object };
  expect(coverage).toMatchObject({ absent: [{ policy: 'typo', what: 'machine', name: 'wbe1' }] });
  // the file that `show` writes is one that `apply` reads
  const shown = file('shown.yaml', appliance.ctl('policy', 'show', 'typo', '-o', 'yaml').stdout);
  expect(appliance.ctl('policy', 'apply', '-f', shown).stderr).toContain('Nothing differs');
  appliance.json('policy', 'set', 'typo', '--vm', 'db1');
  expect(appliance.ctl('status').stderr).not.toContain('wbe1');
  appliance.json('policy', 'remove', 'typo');
});

it('shows what a file would change, changes just that, and removes only when told twice', () => {
  const path = file(
    'policies.yaml',
    `policies:
  - name: gold
    machines: { labels: { tier: gold } }
    schedule: daily at 22:00
    time_zone: Europe/Berlin
    retention: { daily: 7 }
  - name: silver
    machines: { patterns: ["db*"] }
`,
  );
  const dry = appliance.ctl('policy', 'apply', '-f', path, '--dry-run');
  expect(dry.stderr).toContain('schedule: "daily at 23:00" -> "daily at 22:00"');
  expect(dry.stderr).toContain('+ silver');
  expect(appliance.json<{ policies: unknown[] }>('policy', 'list').policies).toHaveLength(1);
  expect(appliance.ctl('policy', 'apply', '-f', path).code).toBe(0);
  expect(appliance.ctl('policy', 'apply', '-f', path).stderr).toContain('Nothing differs.');

  const less = file('less.yaml', 'policies:\n  - name: silver\n    machines: { patterns: ["db*"] }\n');
  expect(appliance.ctl('policy', 'apply', '-f', less).stderr).toContain('? gold');
  expect(appliance.ctl('policy', 'apply', '-f', less, '--prune').code).toBe(2);
  const names = () =>
    appliance.json<{ policies: { name: string }[] }>('policy', 'list').policies.map(({ name }) => name);
  expect(names()).toEqual(['gold', 'silver']);
  expect(appliance.ctl('policy', 'apply', '-f', less, '--prune', '--yes').code).toBe(0);
  expect(names()).toEqual(['silver']);

  // what is shown can be applied again
  const shown = file('shown.yaml', appliance.ctl('policy', 'show', 'silver', '-o', 'yaml').stdout);
  expect(appliance.ctl('policy', 'apply', '-f', shown).stderr).toContain('= silver');
  const wrong = file(
    'wrong.yaml',
    'policies:\n  - name: bad\n    machines: { patterns: ["*"] }\n    schedule: soon\n',
  );
  expectFailure(appliance.ctl('policy', 'apply', '-f', wrong), 'REQUEST_INVALID', 2);
});

it('previews runs, machines and retention without changing anything', () => {
  appliance.json('policy', 'set', 'silver', '--vm', 'web1', '--keep-last', '1', '--schedule', '30 2 * * *');
  appliance.json('policy', 'set', 'silver', '--time-zone', 'Europe/Berlin');
  const before = operator.backups().length;
  interface Preview {
    machines: string[];
    next: { kind: string; local: string }[];
    rules: string;
    retention: { vm_name: string; points: { action: string; reason: string }[] }[];
  }
  const preview = appliance.json<Preview>('policy', 'preview', 'silver', '--count', '3');
  expect(preview.machines).toEqual(['db1', 'web1']);
  expect(preview.next.map(({ kind, local }) => `${kind} ${local.slice(11, 16)}`)).toEqual(
    Array.from({ length: 3 }, () => 'backup 02:30'),
  );
  expect(preview.rules).toContain('Europe/Berlin');
  const web = preview.retention.find(({ vm_name }) => vm_name === 'web1');
  expect(web?.points.map(({ action }) => action).filter((action) => action === 'keep')).toHaveLength(1);
  expect(web?.points[0]?.reason).toMatch(/newest|last/);
  expect(operator.backups()).toHaveLength(before);
});

it('catches up once what was missed, goes on after a kill, and outlives the catalogue', async () => {
  appliance.json('policy', 'add', 'often', '--vm', 'db1', '--schedule', 'every 1h');
  await appliance.stop();
  // as if this schedule had held for two days without a daemon
  const path = join(appliance.home, 'state', 'policies', 'often.json');
  const stored = JSON.parse(readFileSync(path, 'utf8')) as { since: Record<string, string> };
  stored.since['backup'] = new Date(Date.now() - 48 * 3_600_000).toISOString();
  writeFileSync(path, JSON.stringify(stored));
  const settings = ['exports.backend=storage-daemon'];
  // perhaps it is dead before it could be asked how it is
  await appliance.start(settings, { SENDENSE_CRASH_AT: 'intent:transferred' }).catch(() => undefined);
  await appliance.ended();
  await appliance.start(settings);
  const often = () => runs().filter(({ started_by }) => started_by === 'schedule');
  await until('the run is over', () => often().every(({ outcome }) => outcome !== null));
  await appliance.kill();
  await appliance.start(settings);
  expect(often()).toHaveLength(1);
  const [run] = often();
  expect(run).toMatchObject({ outcome: 'completed', counts: { completed: 1 } });
  expect(run?.missed).toBeGreaterThanOrEqual(46);
  const shown = appliance.json<ShownRun>('policy', 'runs', '--run', String(run?.run_id));
  // the next daemon went on with the same job
  expect(shown.tasks?.[0]).toMatchObject({ status: 'completed', attempts: 1 });
  expect(operator.job(shown.tasks?.[0]?.job_id ?? '').warnings.join()).toContain('went on there');
  expect(operator.backups('--vm', 'db1', '--status', 'completed')).toHaveLength(1);

  // a machine that is frozen is let go, and its backup begins anew
  appliance.json('vm', 'set', 'db1', '--before', 'true');
  await appliance.stop();
  await appliance.start(settings, { SENDENSE_CRASH_AT: 'intent:transferred' });
  appliance.ctl('policy', 'run', 'often');
  await appliance.ended();
  await appliance.start(settings);
  await until('the run is over', () => runs()[0]?.outcome !== null);
  const anew = appliance.json<ShownRun>('policy', 'runs', '--run', String(runs()[0]?.run_id));
  expect(anew.tasks?.[0]).toMatchObject({ status: 'completed', attempts: 2 });
  expect(operator.backups('--vm', 'db1', '--status', 'completed')).toHaveLength(2);

  appliance.json('policy', 'set', 'often', '--runner', 'none');
  await operator.idle();
  await appliance.stop();
  for (const name of readdirSync(join(appliance.home, 'state')).filter((one) => one.startsWith('catalog')))
    rmSync(join(appliance.home, 'state', name));
  await appliance.start(settings);
  const kept = appliance.json<{ policies: { name: string; runner: string }[] }>('policy', 'list').policies;
  expect(kept.map(({ name, runner }) => `${name} ${runner}`)).toEqual(['often none', 'silver daemon']);
});

it('refuses what cannot be meant, and changes nothing', () => {
  expectFailure(appliance.ctl('policy', 'show', 'nobody'), 'POLICY_UNKNOWN', 10);
  expectFailure(appliance.ctl('policy', 'add', 'often', '--vm', 'db1'), 'POLICY_EXISTS', 13);
  expectFailure(
    appliance.ctl('policy', 'add', 'x', '--vm', 'a', '--repository', 'nowhere'),
    'POLICY_PLACE_UNKNOWN',
    10,
  );
  const wrong = appliance.ctl('policy', 'add', 'x', '--vm', 'a', '--mirror', 'nowhere');
  expectFailure(wrong, 'POLICY_PLACE_UNKNOWN', 10);
  expect(wrong.stderr).toContain('The policy "x" names the mirror "nowhere"');
  expect(wrong.stderr).toContain('sendense-ctl mirror list');
  // of several in a file it is told which
  const two = file(
    'wrong.yaml',
    'policies:\n  - { name: fine, machines: { names: [db1] } }\n  - { name: bad, machines: { names: [db1] }, mirrors: [nowhere] }\n',
  );
  const applied = appliance.ctl('policy', 'apply', '-f', two);
  expectFailure(applied, 'POLICY_PLACE_UNKNOWN', 10);
  expect(applied.stderr).toContain('The policy "bad"');
  expectFailure(appliance.ctl('policy', 'show', 'fine'), 'POLICY_UNKNOWN', 10);
  expectFailure(appliance.ctl('policy', 'run', 'often', '--kind', 'mirror'), 'POLICY_NOTHING_TO_DO', 13);
  expectFailure(appliance.ctl('policy', 'set', 'often', '--schedule', 'every 7h'), 'POLICY_INVALID', 2);
  expect(appliance.ctl('policy', 'add', 'x').code).toBe(2);
  mkdirSync(join(work, 'folder'));
  expectFailure(appliance.ctl('policy', 'apply', '-f', join(work, 'folder')), 'POLICY_INVALID', 2);
});

it('writes timers that systemd starts as they stand, and removes its own that are not wanted any more', () => {
  const units = join(work, 'units');
  const bin = fileURLToPath(new URL('../../bin/sendense-ctl', import.meta.url));
  const write = () => appliance.ctl('schedule', 'export', '--systemd', '--output', units, '--ctl', bin);
  // registrations went with the catalogue; the restore points are there again
  appliance.json('vm', 'add', 'db1', '--disk', disks.get('db1')?.path ?? '');
  appliance.json('policy', 'set', 'often', '--runner', 'systemd');
  appliance.json('policy', 'set', 'silver', '--runner', 'systemd', '--verify-schedule', 'daily at 05:00');
  expect(write().stderr).toContain('enable --now sendense-backup@often.timer');
  writeFileSync(join(units, 'sendense-backup@byhand.timer'), '[Timer]\nOnCalendar=daily\n');
  const verified = spawnSync(
    'systemd-analyze',
    [
      'verify',
      '--man=no',
      ...readdirSync(units)
        .filter((name) => /@.+\.timer$/.test(name))
        .map((name) => join(units, name)),
    ],
    { encoding: 'utf8', env: { ...process.env, SYSTEMD_UNIT_PATH: `${units}:`, LC_ALL: 'C' } },
  );
  expect([verified.status, verified.stderr]).toEqual([0, '']);
  // what a timer would start
  const service = readFileSync(join(units, 'sendense-verify@.service'), 'utf8');
  const line = /^ExecStart=(.*)$/m.exec(service)?.[1]?.replace('%i', 'silver') ?? '';
  const started = spawnSync('sh', ['-c', line], { encoding: 'utf8' });
  expect([started.status, started.stderr]).toEqual([0, expect.stringContaining('done, 0 failed')]);
  expect(runs()[0]).toMatchObject({ kind: 'verify', started_by: 'systemd', outcome: 'completed' });

  appliance.json('policy', 'set', 'silver', '--runner', 'none');
  expect(write().stderr).toContain('Removed sendense-backup@silver.timer');
  expect(readdirSync(units)).toEqual([
    'sendense-backup@.service',
    'sendense-backup@byhand.timer',
    'sendense-backup@often.timer',
  ]);
});
