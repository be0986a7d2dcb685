import {
  copyFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { FuseSource } from '../support/fuse-source.ts';
import { bytesOf, sh } from '../support/guest-disk.ts';
import { LoopFolder } from '../support/loop-folder.ts';
import { expectFailure, Operator, until } from '../support/operator.ts';

const MIB = 1024 * 1024;
let work: string;
let appliance: TestAppliance;
let operator: Operator;
let usb: LoopFolder;
let slow: FuseSource | null;

beforeEach(async () => {
  work = mkdtempSync(join(tmpdir(), 'sd-away-'));
  appliance = new TestAppliance();
  operator = new Operator(appliance);
  usb = new LoopFolder(join(work, 'usb'), 128);
  slow = null;
  usb.mount();
  writeFileSync(join(work, 'disk'), bytesOf('disk', 3 * MIB));
  await appliance.start(settings);
  appliance.json('vm', 'add', 'm', '--disk', join(work, 'disk'));
});
afterEach(async () => {
  await appliance.dispose();
  await slow?.stop();
  usb.dispose();
  rmSync(work, { recursive: true, force: true });
});

const settings = ['repository.poll_s=1', 'repository.reserve_bytes=1000000'];
const add = (...more: string[]) =>
  appliance.ctl('repository', 'add', 'usb', '--path', join(usb.path, 'backups'), ...more);
interface Shown {
  name: string;
  state: string;
  reason: string | null;
  since: string;
  mount: string | null;
  total_bytes: number | null;
}
const shown = () => appliance.json<Shown>('repository', 'show', 'usb');
const backUp = () => operator.backUp('m', 'incremental', '--repository', 'usb');
const isAway = () => until('it is missed', () => shown().state === 'away');
const isBack = () => until('it is back', () => shown().state === 'ready');

it('shows an idle one as away, refuses work, and takes it up again by itself', async () => {
  expect(add().code).toBe(0);
  expect(shown()).toMatchObject({ state: 'ready', reason: null, mount: usb.path });
  const first = backUp();
  usb.vanish();
  await isAway();
  const away = appliance.json<{ repositories: Shown[] }>('repository', 'list').repositories;
  expect(away.find(({ name }) => name === 'usb')).toMatchObject({
    state: 'away',
    reason: expect.stringContaining(`nothing is mounted at ${usb.path}`),
    total_bytes: null,
  });
  expect(appliance.ctl('repository', 'list').stderr).toContain('"usb" is away since 20');
  expect(appliance.ctl('doctor').code).toBe(21);
  const refused = [
    ['backup', 'start', '--vm', 'm', '--repository', 'usb', '--wait'],
    ['backup', 'delete', first.backup_id],
    ['backup', 'pin', first.backup_id, '--reason', 'why not'],
    ['backup', 'consolidate', '--vm', 'm', '--repository', 'usb'],
    ['prune', 'plan', '--repository', 'usb', '--keep-last', '1'],
    ['restore', 'disk', '--backup-id', first.backup_id, '--output', join(work, 'out')],
  ];
  for (const command of refused) {
    const result = appliance.ctl(...command);
    expectFailure(result, 'REPOSITORY_UNAVAILABLE', 21);
    expect(result.stderr).toContain(`nothing is mounted at ${usb.path}`);
  }
  expect(readdirSync(usb.path)).toEqual([]);
  // it stays listed under its name
  expect(operator.backups()[0]).toMatchObject({ backup_id: first.backup_id, repository: 'usb' });
  usb.mount();
  await isBack();
  expect(backUp().disks[0]?.backup_type).toBe('incremental');
  operator.expectRestored(first.backup_id, 0, join(work, 'disk'));
  const kinds = ['repository.away', 'repository.back'].map((kind) => operator.events(kind).length);
  expect(kinds).toEqual([1, 1]);
});

it('is not fooled by a copy below the mount point, now or at start', async () => {
  add();
  const first = backUp();
  cpSync(join(usb.path, 'backups'), join(work, 'copy'), { recursive: true });
  usb.vanish();
  cpSync(join(work, 'copy'), join(usb.path, 'backups'), { recursive: true });
  const files = readdirSync(usb.path, { recursive: true }).length;
  for (const isRestarted of [false, true]) {
    if (isRestarted) {
      await appliance.stop();
      await appliance.start(settings);
    }
    await isAway();
    const result = appliance.ctl('backup', 'start', '--vm', 'm', '--repository', 'usb', '--wait');
    expectFailure(result, 'REPOSITORY_UNAVAILABLE', 21);
    expect(readdirSync(usb.path, { recursive: true })).toHaveLength(files);
  }
  // who forgets it and adds the copy is told; who means it may
  appliance.json('repository', 'remove', 'usb', '--keep-backups');
  expect(add().stderr).toContain('--no-mount-check');
  expectFailure(add('--mount', usb.path), 'REPOSITORY_UNAVAILABLE', 21);
  expectFailure(add('--mount', 'auto'), 'REPOSITORY_UNAVAILABLE', 21);
  expect(add('--mount', usb.path, '--no-mount-check').code).toBe(2);
  expect(add('--no-mount-check').code).toBe(0);
  expect(shown().mount).toBeNull();
  operator.expectRestored(first.backup_id, 0, join(work, 'disk'));
  appliance.json('repository', 'remove', 'usb', '--keep-backups');
  rmSync(join(usb.path, 'backups'), { recursive: true });
});

it('opens one that was away at start, and settles what was left there', async () => {
  add();
  const points = [backUp(), backUp(), backUp()].map(({ backup_id }) => backup_id);
  await appliance.stop();
  // killed in the middle of a merge
  await appliance.start([...settings, 'chain.consolidate=false'], {
    SENDENSE_CRASH_AT: 'intent:merge-switching',
  });
  appliance.json('backup', 'delete', points[0] ?? '', '--merge');
  appliance.ctl('backup', 'consolidate', '--vm', 'm', '--repository', 'usb', '--wait');
  await appliance.ended();
  usb.vanish();
  await appliance.start([...settings, 'chain.consolidate=false']);
  await isAway();
  expect(operator.events('repository.unavailable')).toHaveLength(1);
  usb.mount();
  await isBack();
  const files = readdirSync(join(usb.path, 'backups'), { recursive: true }).map(String);
  expect(files.filter((name) => /merge\.json|\.partial|\.tmp/.test(name))).toEqual([]);
  for (const id of points.slice(1)) operator.expectRestored(id, 0, join(work, 'disk'));
  appliance.json('backup', 'consolidate', '--vm', 'm', '--repository', 'usb', '--wait');
  for (const id of points.slice(1)) operator.expectRestored(id, 0, join(work, 'disk'));
});

it.each(['back while the daemon runs', 'back after a restart'])(
  'fails a backup under way cleanly, and cleans up when it is %s',
  async (when) => {
    add();
    const first = backUp();
    copyFileSync(join(work, 'disk'), join(work, 'disk.first'));
    slow = new FuseSource(join(work, 'slow'), join(work, 'slow.shown'), { bytesPerSecond: 4 * MIB });
    writeFileSync(join(work, 'slow'), bytesOf('slow', 60 * MIB));
    await slow.start();
    appliance.json('vm', 'add', 'slow', '--disk', slow.path);
    const started = appliance.json<{ job_id: string }>(
      ...['backup', 'start', '--vm', 'slow', '--repository', 'usb'],
    );
    await until('bytes flow', () => operator.job(started.job_id).progress.processed_bytes > 2 * MIB);
    usb.vanish();
    await until('it failed', () => operator.job(started.job_id).status === 'failed');
    expect(operator.job(started.job_id).error?.code).toBe('REPOSITORY_UNAVAILABLE');
    await isAway();
    expect(readdirSync(usb.path)).toEqual([]);
    if (when.includes('restart')) await appliance.stop();
    usb.mount();
    const layers = () =>
      readdirSync(join(usb.path, 'backups'), { recursive: true })
        .map(String)
        .filter((name) => /disk-\d+\/./.test(name));
    expect(layers().some((name) => name.endsWith('.partial'))).toBe(true);
    if (when.includes('restart')) await appliance.start(settings);
    await isBack();
    await until('it is cleaned up', () => layers().length === 3);
    operator.expectRestored(first.backup_id, 0, join(work, 'disk.first'));
    expect(backUp().disks[0]?.backup_type).toBe('incremental');
  },
);

it('reads a file system that became read-only, and writes when it can again', async () => {
  add();
  const first = backUp();
  appliance.json('repository', 'detach', 'usb');
  sh('mount', '-o', 'remount,ro', usb.path);
  add();
  expect(shown()).toMatchObject({ state: 'read-only', reason: expect.stringContaining('read-only') });
  operator.expectRestored(first.backup_id, 0, join(work, 'disk'));
  const result = appliance.ctl('backup', 'start', '--vm', 'm', '--repository', 'usb', '--wait');
  expectFailure(result, 'REPOSITORY_UNAVAILABLE', 21);
  sh('mount', '-o', 'remount,rw', usb.path);
  await isBack();
  expect(backUp().disks[0]?.backup_type).toBe('incremental');
});

it('starts a chain of its own in each repository', () => {
  add();
  mkdirSync(join(work, 'other'));
  operator.backUp('m');
  const there = backUp();
  expect(there.disks[0]).toMatchObject({ backup_type: 'full', parent_layer: null });
  expect(operator.backUp('m').disks[0]?.backup_type).toBe('incremental');
  expect(backUp().disks[0]).toMatchObject({
    backup_type: 'incremental',
    parent_layer: there.disks[0]?.layer,
  });
  unlinkSync(join(work, 'disk'));
  operator.restore(there.backup_id, 0, join(work, 'disk'));
});

it('is not let go of while one of its restore points is mounted', () => {
  sh('mkfs.ext4', '-q', '-F', join(work, 'disk'));
  add();
  const { backup_id } = backUp();
  const { mount_id } = appliance.json<{ mount_id: string }>('backup', 'mount', '--backup-id', backup_id);
  expectFailure(appliance.ctl('repository', 'detach', 'usb'), 'REPOSITORY_BUSY', 11);
  appliance.json('mount', 'remove', mount_id);
  appliance.json('repository', 'detach', 'usb');
  // what it says then is enough to use it again
  expect(shown().reason).toContain(`repository attach usb --path ${join(usb.path, 'backups')}`);
});
