import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { bin, TestAppliance } from '../support/appliance.ts';
import { bytesOf } from '../support/guest-disk.ts';
import { LoopFolder } from '../support/loop-folder.ts';
import { expectFailure, Operator, until } from '../support/operator.ts';

let work: string;
let first: TestAppliance;
let second: TestAppliance;
let shared: string;

const settings = ['repository.poll_s=1', 'repository.reserve_bytes=1000000'];

beforeEach(async () => {
  work = mkdtempSync(join(tmpdir(), 'sd-lock-'));
  first = new TestAppliance();
  second = new TestAppliance();
  shared = join(work, 'shared');
  writeFileSync(join(work, 'disk'), bytesOf('disk', 1024 * 1024));
  await Promise.all([first.start(settings), second.start(settings)]);
  first.json('vm', 'add', 'm', '--disk', join(work, 'disk'));
  first.json('repository', 'add', 'shared', '--path', shared);
});
afterEach(async () => {
  await Promise.all([first.dispose(), second.dispose()]);
  rmSync(work, { recursive: true, force: true });
});

const add = (appliance: TestAppliance, ...more: string[]) =>
  appliance.ctl('repository', 'add', 'shared', '--path', shared, ...more);
const stateOf = (appliance: TestAppliance) =>
  appliance.json<{ state: string; reason: string | null }>('repository', 'show', 'shared');

it('refuses a second daemon with who has it, and lets it in when the first one goes', async () => {
  const refused = add(second);
  expectFailure(refused, 'REPOSITORY_IN_USE', 21);
  for (const part of [`pid ${first.pid}`, hostname(), first.home, 'since 20'])
    expect(refused.stderr).toContain(part);
  const { backup_id } = new Operator(first).backUp('m', 'full', '--repository', 'shared');
  // no stop and no clean-up: the kernel gives the lock back
  await first.kill();
  expect(add(second).code).toBe(0);
  expect(new Operator(second).backups().map((backup) => backup.backup_id)).toEqual([backup_id]);
  expect(JSON.parse(readFileSync(join(shared, '.lock.json'), 'utf8'))).toMatchObject({
    ...{ pid: second.pid, home: second.home, host: hostname() },
  });
  // the first one comes back, waits, and goes on by itself
  await first.start(settings);
  expect(stateOf(first)).toMatchObject({
    state: 'away',
    reason: expect.stringContaining(`pid ${second.pid}`),
  });
  const blocked = first.ctl('backup', 'start', '--vm', 'm', '--repository', 'shared', '--wait');
  expectFailure(blocked, 'REPOSITORY_UNAVAILABLE', 21);
  second.json('repository', 'remove', 'shared', '--keep-backups');
  await until('the first has it again', () => stateOf(first).state === 'ready');
  const next = new Operator(first).backUp('m', 'incremental', '--repository', 'shared');
  expect(next.disks[0]?.backup_type).toBe('incremental');
});

it('is free after a stop and after a detach, and tells of a local one at start', async () => {
  first.json('repository', 'detach', 'shared');
  expect(stateOf(first)).toMatchObject({ state: 'away', reason: expect.stringContaining('by hand') });
  expect(add(second).code).toBe(0);
  second.json('repository', 'remove', 'shared');
  first.json('repository', 'add', 'shared', '--path', shared);
  expectFailure(add(second), 'REPOSITORY_IN_USE', 21);
  await first.stop();
  expect(add(second).code).toBe(0);

  // a third home whose own repository is the folder of another
  const third = mkdtempSync(join(work, 'third-'));
  spawnSync('ln', ['-s', join(second.home, 'backups'), join(third, 'backups')]);
  const result = spawnSync(bin('sendensed'), ['--home', third], { encoding: 'utf8', timeout: 30_000 });
  expect(result.stderr).toContain('(REPOSITORY_IN_USE)');
  expect(result.stderr).toContain(`pid ${second.pid}`);
  expect(result.status).toBe(21);
  // the helper with the rights of root among them
  expect(programsOf(third)).toEqual([]);
});

/** Command lines that name a home. */
function programsOf(home: string): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        return [readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')];
      } catch {
        return [];
      }
    })
    .filter((command) => command.includes(home));
}

it('lets a detached file system be unmounted, and opens it when it is mounted again', async () => {
  const usb = new LoopFolder(join(work, 'usb'), 32);
  try {
    usb.mount();
    first.json('repository', 'add', 'usb', '--path', usb.path);
    const before = new Operator(first).backUp('m', 'full', '--repository', 'usb');
    first.json('repository', 'detach', 'usb');
    usb.umount(); // not lazily: nothing is open
    const state = () => first.json<{ state: string; reason: string }>('repository', 'show', 'usb');
    await until('it is missed', () => state().reason.includes('mounted'));
    usb.mount();
    await until('it is back', () => state().state === 'ready');
    new Operator(first).expectRestored(before.backup_id, 0, join(work, 'disk'));
    first.json('repository', 'detach', 'usb');
  } finally {
    usb.dispose();
  }
});
