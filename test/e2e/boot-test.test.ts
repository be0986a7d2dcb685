import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { AGENT, IDLE, makeBootableDisk } from '../support/boot-guest.ts';
import { makePlainDisk, sh } from '../support/guest-disk.ts';
import { expectFailure, Operator, until } from '../support/operator.ts';

interface TestJob {
  job_id: string;
  status: string;
  phase: string | null;
  result: { outcome: string; reason: string; folder: string; time: string; met: { condition: string }[] };
}
interface Test {
  time: string;
  folder: string;
  outcome: string;
  reason: string;
  met: { condition: string; after_ms: number }[];
  machine: { accelerator: string; disks: number };
  screens: { file: string }[];
  files: { name: string; bytes: number }[];
}

/** Writes to both of its disks before it says so, and then has an agent. */
const WRITER = `
load virtio_pci virtio_blk ext4
mount -t ext4 /dev/vdb /mnt && echo new >/mnt/new && sync && umount /mnt
dd if=/dev/urandom of=/dev/vda bs=1M seek=39 count=1 conv=notrunc 2>/dev/null; sync
mount -t ext4 -o ro /dev/vdb /mnt && echo "SENDENSE-WROTE $(cat /mnt/new) $(cat /mnt/old)" >/dev/ttyS0
for line in 1 2 3 4 5 6; do echo "this machine is up and running, line $line" >/dev/tty0; done
${AGENT}${IDLE}`;

const work = mkdtempSync(join(tmpdir(), 'sd-boot-'));
const file = (name: string) => join(work, name);
const appliance = new TestAppliance();
const operator = new Operator(appliance);
const settings = ['boot_test.keep=2'];
const points = new Map<string, string>();
const idOf = (vm: string) => points.get(vm) ?? '';

const boot = (vm: string, ...more: string[]) =>
  appliance.ctl('restore', 'test', '--backup-id', idOf(vm), '--memory', '256M', '--wait', ...more);
const passes = (vm: string, ...more: string[]): TestJob => {
  const result = boot(vm, ...more, '-o', 'json');
  expect(result.stderr).toContain('came up');
  expect(result.code).toBe(0);
  return JSON.parse(result.stdout) as TestJob;
};
const begin = (vm: string, ...more: string[]): TestJob =>
  appliance.json('restore', 'test', '--backup-id', idOf(vm), '--memory', '256M', ...more);
const testsOf = (vm: string): Test[] =>
  appliance.json<{ tests: Test[] }>('restore', 'tests', '--backup-id', idOf(vm)).tests;
const shown = (vm: string) =>
  appliance.json<{ boot_test: { outcome: string; tested_at: string; met: string[] } | null }>(
    ...['backup', 'show', idOf(vm)],
  ).boot_test;
const jobOf = (id: string): TestJob =>
  JSON.parse(appliance.rest('GET', `/api/v1/jobs/${id}`).body) as TestJob;
const runs = (job: TestJob) => until('it boots', () => appliance.processes(job.job_id).length > 0);
const orphans = () =>
  appliance.json<{ orphans: { path: string; kind: string; keep: string | null }[] }>(
    ...['repository', 'orphans', 'local'],
  ).orphans;
/** Digests of every layer of the repository. */
const layers = () =>
  sh(
    'sh',
    '-c',
    `cd '${join(appliance.home, 'backups')}' && find . -name '*.qcow2' | sort | xargs sha256sum`,
  );
const expectNothingLeft = () => {
  expect(appliance.processes('sendense-boot-test')).toEqual([]);
  for (const folder of ['run/boot', 'state/boot'])
    expect(readdirSync(join(appliance.home, ...folder.split('/')))).toEqual([]);
};

let before = '';

beforeAll(async () => {
  makeBootableDisk(file('writer.img'), WRITER);
  makePlainDisk(file('data.img'), 16);
  writeFileSync(file('old'), 'old\n');
  sh('debugfs', '-w', '-R', `write ${file('old')} old`, file('data.img'));
  makeBootableDisk(file('panic.img'), 'sleep 0.3\nexit 1\n');
  makeBootableDisk(file('off.img'), 'poweroff -f\n');
  writeFileSync(file('zeros.img'), '');
  truncateSync(file('zeros.img'), 4 * 1024 * 1024);
  // a boot sector that only jumps to itself
  writeFileSync(file('stuck.img'), '');
  truncateSync(file('stuck.img'), 4 * 1024 * 1024);
  const stuck = openSync(file('stuck.img'), 'r+');
  writeSync(stuck, Buffer.from([0xeb, 0xfe]), 0, 2, 0);
  writeSync(stuck, Buffer.from([0x55, 0xaa]), 0, 2, 510);
  closeSync(stuck);
  await appliance.start(settings);
  appliance.json('vm', 'add', 'writer', '--disk', file('writer.img'), '--disk', file('data.img'));
  for (const vm of ['panic', 'off', 'zeros', 'stuck'])
    appliance.json('vm', 'add', vm, '--disk', file(`${vm}.img`));
  for (const vm of ['writer', 'panic', 'off', 'zeros', 'stuck'])
    points.set(vm, operator.backUp(vm, 'full').backup_id);
  // a chain of two layers
  sh('debugfs', '-w', '-R', `write ${file('old')} more`, file('data.img'));
  points.set('writer', operator.backUp('writer').backup_id);
  before = layers();
}, 60_000);
afterAll(async () => {
  expect(appliance.processes('sendense-boot-test')).toEqual([]);
  await appliance.dispose();
  rmSync(work, { recursive: true, force: true });
});

describe('a machine that comes up', () => {
  it('is known by a line on its serial console, and writes to no layer', () => {
    const job = passes('writer', '--expect-serial', '^SENDENSE-WROTE new old$');
    expect(job.result.met.map(({ condition }) => condition)).toEqual(['serial']);
    const [test] = testsOf('writer');
    expect(test).toMatchObject({ outcome: 'passed', machine: { accelerator: 'tcg', disks: 2 } });
    expect(readFileSync(join(test?.folder ?? '', 'serial.log'), 'utf8')).toContain('SENDENSE-READY');
    expect(shown('writer')).toMatchObject({ outcome: 'passed', met: ['serial'] });
    expect(layers()).toBe(before);
    expectNothingLeft();
  });

  it('is known by its agent and by its picture, when both are wanted', () => {
    const job = passes('writer', '--expect-agent', '--expect-screen-stable', '2s');
    expect(job.result.met.map(({ condition }) => condition).sort()).toEqual(['agent', 'screen']);
    const [test] = testsOf('writer');
    const last = test?.screens.at(-1)?.file ?? '';
    const answer = appliance.rest(
      'GET',
      `/api/v1/backup/${idOf('writer')}/boot-tests/${test?.time}/result.json`,
    );
    expect(JSON.parse(answer.body)).toMatchObject({ outcome: 'passed', backup_id: idOf('writer') });
    // a tool that is not ours sees a picture in it
    expect(
      readFileSync(join(test?.folder ?? '', last))
        .subarray(1, 4)
        .toString(),
    ).toBe('PNG');
    sh(
      'curl',
      '-sf',
      '--unix-socket',
      join(appliance.home, 'run/sendensed.sock'),
      '-o',
      file('s.png'),
      `http://d/api/v1/backup/${idOf('writer')}/boot-tests/${test?.time}/${last}`,
    );
    sh('cmp', file('s.png'), join(test?.folder ?? '', last));
  });

  it('shows whichever comes first when nothing is asked for; two run at once, a third one waits', async () => {
    const jobs = [begin('writer'), begin('writer'), begin('writer')];
    await until('two run', () => appliance.processes('sendense-boot-test').length === 2);
    expect(jobs.map(({ job_id }) => jobOf(job_id).status)).toEqual(['running', 'running', 'pending']);
    expectFailure(appliance.ctl('backup', 'delete', idOf('writer')), 'BACKUP_BUSY', 11);
    const ended = ['completed', 'failed'];
    await until('all have ended', () => jobs.every(({ job_id }) => ended.includes(jobOf(job_id).status)));
    for (const { job_id } of jobs) expect(jobOf(job_id)).toMatchObject({ status: 'completed' });
    expect(jobOf(jobs[0]?.job_id ?? '').result.met[0]?.condition).toBe('agent');
    // two of them began in one second; the newest two are kept
    expect(testsOf('writer')).toHaveLength(2);
    expect(layers()).toBe(before);
    expectNothingLeft();
  });
});

describe('a machine that does not', () => {
  it('has an empty disk', () => {
    expectFailure(boot('zeros', '--timeout', '8s'), 'BOOT_TEST_FAILED', 20);
    const [test] = testsOf('zeros');
    expect(test).toMatchObject({ outcome: 'failed', reason: expect.stringContaining('nothing to boot') });
    expect(test?.screens.length).toBeGreaterThan(0);
    expect(shown('zeros')?.outcome).toBe('failed');
    expect(appliance.ctl('backup', 'list', '--vm', 'zeros').stdout).toContain('FAILED');
  });

  it('stands still behind its firmware: that picture is not its own', () => {
    expectFailure(boot('stuck', '--timeout', '5s', '--expect-screen-stable', '1s'), 'BOOT_TEST_FAILED', 20);
    const [test] = testsOf('stuck');
    expect(test?.reason).toBe('a picture that stays did not come within 5 s');
    expect(test?.files.map(({ name }) => name)).toContain('screen-1.png');
  });

  it('panics, or switches itself off', () => {
    expectFailure(boot('panic', '--expect-serial', 'login:'), 'BOOT_TEST_FAILED', 20);
    expect(testsOf('panic')[0]?.reason).toContain("the guest's kernel panicked: Attempted to kill init");
    expectFailure(boot('off'), 'BOOT_TEST_FAILED', 20);
    expect(testsOf('off')[0]?.reason).toBe('it switched itself off');
  });
});

describe('a test', () => {
  it('is refused when it makes no sense', () => {
    expectFailure(boot('writer', '--expect-serial', '('), 'REQUEST_INVALID', 2);
    expect(appliance.ctl('restore', 'test', '--vm', 'writer').code).toBe(2);
    expect(appliance.ctl('restore', 'test', '--backup-id', 'x', '--vm', 'writer', '--latest').code).toBe(2);
    expectFailure(appliance.ctl('restore', 'test', '--backup-id', 'backup-nobody'), 'BACKUP_UNKNOWN', 10);
    const time = testsOf('zeros')[0]?.time ?? '';
    for (const path of [`${time}/../../../vm.json`, `${time}/vm.json`, `..%2F..%2Fbackups/result.json`])
      expect(
        appliance.rest('GET', `/api/v1/backup/${idOf('zeros')}/boot-tests/${path}`).status,
      ).toBeGreaterThan(399);
    const missing = appliance.rest('GET', `/api/v1/backup/${idOf('zeros')}/boot-tests/${time}/screen-99.png`);
    expect(missing.status).toBe(404);
    // whoever writes to a repository must not have other files read
    const [test] = testsOf('zeros');
    sh('ln', '-sf', '/etc/hostname', join(test?.folder ?? '', 'screen-98.png'));
    expect(
      appliance.rest('GET', `/api/v1/backup/${idOf('zeros')}/boot-tests/${time}/screen-98.png`).status,
    ).toBe(404);
  });

  it('ends when it is cancelled, when its QEMU dies, and when the daemon dies', async () => {
    const cancelled = begin('writer', '--expect-serial', 'never');
    await runs(cancelled);
    appliance.json('job', 'cancel', cancelled.job_id);
    await until('it is cancelled', () => jobOf(cancelled.job_id).status === 'cancelled');
    expectNothingLeft();

    const broken = begin('writer', '--expect-serial', 'never');
    await runs(broken);
    const stored = testsOf('writer').length;
    for (const pid of appliance.processes(broken.job_id)) process.kill(pid, 'SIGKILL');
    await until('it has failed', () => jobOf(broken.job_id).status === 'failed');
    expectFailure(appliance.ctl('job', 'watch', broken.job_id), 'BOOT_TEST_BROKEN', 21);
    // it says nothing of the restore point
    expect(testsOf('writer')).toHaveLength(stored);
    expectNothingLeft();

    const orphaned = begin('writer', '--expect-serial', 'never');
    await runs(orphaned);
    await appliance.kill();
    await appliance.start(settings);
    expect(jobOf(orphaned.job_id).status).toBe('failed');
    expectNothingLeft();
    expect(layers()).toBe(before);
    expect(orphans()).toEqual([]);
  });

  it('comes back with a rebuild, and goes with its restore point', async () => {
    const was = shown('zeros');
    expect(was).not.toBeNull();
    await appliance.stop();
    for (const name of readdirSync(join(appliance.home, 'state')))
      if (name.startsWith('catalog')) rmSync(join(appliance.home, 'state', name));
    await appliance.start(settings);
    appliance.ctl('repository', 'rebuild', 'local', '--wait');
    expect(shown('zeros')).toEqual(was);
    const folder = join(testsOf('zeros')[0]?.folder ?? '', '..', '..');
    const machine = join(folder, '..');
    appliance.json('backup', 'delete', idOf('zeros'));
    expect(existsSync(folder)).toBe(false);
    // what a crash leaves is an orphan
    const stray = join(machine, 'boot-tests', idOf('zeros'), '20261120-000000.partial');
    sh('mkdir', '-p', stray);
    writeFileSync(join(stray, 'serial.log'), 'x');
    const kinds = orphans().map(({ kind, keep }) => [kind, keep]);
    expect(kinds).toContainEqual(['boot test', null]);
    const { plan } = appliance.json<{ plan: string }>('repository', 'orphans', 'local');
    appliance.json('repository', 'orphans', 'local', '--remove', plan, '--yes');
    expect(existsSync(join(machine, 'boot-tests', idOf('zeros')))).toBe(false);
  });
});
