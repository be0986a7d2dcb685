import { spawnSync } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bin, TestAppliance } from '../support/appliance.ts';
import { insideDisk, makePlainDisk } from '../support/guest-disk.ts';
import { expectProblem, requestTo } from '../support/rest-client.ts';

const work = mkdtempSync(join(tmpdir(), 'sd-bad-'));
const appliance = new TestAppliance();
const file = (name: string) => join(work, name);
const call = requestTo(appliance);
let backupId = '';

beforeAll(async () => {
  const plain = makePlainDisk(file('disk'), 16);
  insideDisk(file('disk'), plain, (root) => {
    mkdirSync(join(root, 'folder'));
    writeFileSync(join(root, 'folder', 'digits.txt'), '0123456789');
    writeFileSync(join(root, `${'ä'.repeat(40)}.txt`), 'umlauts');
    symlinkSync('/etc/shadow', join(root, 'absolute'));
    symlinkSync('../../../../../../../../etc/shadow', join(root, 'relative'));
    symlinkSync('/', join(root, 'root'));
    symlinkSync('/proc/self/root/etc', join(root, 'magic'));
  });
  await appliance.start();
  appliance.json('vm', 'add', 'm', '--disk', file('disk'));
  backupId = appliance.json<{ backup_id: string }>('backup', 'start', '--vm', 'm', '--wait').backup_id;
});
afterAll(async () => {
  await appliance.dispose();
  rmSync(work, { recursive: true, force: true });
});

describe('the command line', () => {
  it('says where help is when something was typed wrong', () => {
    for (const [args, said, see] of [
      [['backup', 'start'], "required option '--vm <name>'", 'sendense-ctl backup start --help'],
      [['vm', 'remov', 'm'], 'Did you mean remove?', 'sendense-ctl vm --help'],
      [['bakup', 'list'], 'Did you mean backup?', 'sendense-ctl --help'],
      [
        ['mirror', 'key', 'list'],
        "missing required argument 'mirror'",
        'sendense-ctl mirror key list --help',
      ],
      [['vm', 'add', 'new'], 'at least one disk', 'sendense-ctl vm add --help'],
    ] as const) {
      const { code, stderr } = appliance.ctl(...args);
      expect([code, stderr]).toEqual([2, expect.stringContaining(said)]);
      expect(stderr).toContain(`\n       See: ${see}\n`);
    }
  });

  it('ends with the documented codes', () => {
    expect(appliance.ctl('no-such-command').code).toBe(2);
    expect(appliance.ctl('vm', 'add').code).toBe(2);
    expect(appliance.ctl('vm', 'add', '../x', '--disk', file('disk')).code).toBe(2);
    expect(appliance.ctl('vm', 'list', '-o', 'xml').code).toBe(2);
    expect(
      appliance.ctl('restore', 'disk', '--backup-id', backupId, '--output', file('out'), '--disk', 'x').code,
    ).toBe(2);
    expect(appliance.ctl('vm', 'show', 'nobody').code).toBe(10);
    expect(appliance.ctl('vm', 'show', '../../health').code).not.toBe(0);
    expect(appliance.ctl('vm', 'add', 'm', '--disk', file('disk')).code).toBe(13);
    expect(appliance.ctl('vm', 'remove', 'm').code).toBe(13);
    expect(appliance.ctl('backup', 'start', '--vm', 'nobody').code).toBe(10);
    for (const [args, listed] of [
      [['backup', 'start', '--vm', 'm', '--type', 'ful'], 'full, incremental, differential'],
      [['backup', 'list', '--status', 'done'], 'pending, running, completed, failed, cancelled'],
      [['job', 'list', '--status', 'done'], 'pending, running, completed, failed, cancelled'],
      [
        ['restore', 'disk', '--backup-id', backupId, '--output', file('out'), '--as', 'vdi'],
        'raw, qcow2, vmdk, vhdx',
      ],
      [['vm', 'list', '-o', 'xml'], 'table, json, yaml, name'],
      [['vm', 'add', 'web1'], 'sendense-ctl vm add web1 --disk /srv/web1.img'],
    ] as const) {
      const result = appliance.ctl(...args);
      expect(result.stderr).toContain(listed);
      expect(result.code).toBe(2);
    }
    const away = spawnSync(bin('sendense-ctl'), ['--home', file('nowhere'), 'status'], { encoding: 'utf8' });
    expect(away.stderr).toContain('(DAEMON_UNREACHABLE)');
    expect(away.status).toBe(21);
  });

  it('prints a document for every command that changes something', () => {
    appliance.json('vm', 'add', 'short', '--disk', file('disk'));
    expect(appliance.json('vm', 'remove', 'short')).toEqual({ name: 'short', removed: true });
    const from = ['backup', 'extract', '--backup-id', backupId, '--file'];
    expect(appliance.json(...from, '/folder/digits.txt', '--output', work)).toEqual({
      backup_id: backupId,
      file: '/folder/digits.txt',
      output: file('digits.txt'),
      kind: 'file',
    });
    expect(appliance.json(...from, '/folder', '--output', file('unpacked'))).toMatchObject({
      output: file('unpacked'),
      kind: 'directory',
    });
    const { mount_id } = appliance.json<{ mount_id: string }>('backup', 'mount', '--backup-id', backupId);
    expect(appliance.json('mount', 'remove', mount_id)).toEqual({ mount_id, removed: true });
  });

  it('tells what is missing and what to do next', () => {
    const { checks } = appliance.json<{ checks: { check: string; result: string }[] }>('doctor');
    expect(checks.filter((finding) => finding.result !== 'ok')).toEqual([]);
    expect(checks.map((finding) => finding.check)).toEqual(
      expect.arrayContaining(['qemu', 'fuse', 'programs', 'clock', 'repository local']),
    );
    const away = spawnSync(bin('sendense-ctl'), ['--home', file('nowhere'), 'doctor'], { encoding: 'utf8' });
    expect([away.status, away.stdout]).toEqual([21, expect.stringMatching(/daemon +FAILED/)]);
    expect(away.stderr).toContain(`sendensed --home ${file('nowhere')}`);
  });
});

describe('a restore that is refused', () => {
  it.each([
    ['inside the home', () => join(appliance.home, 'out'), 'OUTPUT_INVALID', 2],
    ['inside the repository', () => join(appliance.home, 'backups', 'out'), 'OUTPUT_INVALID', 2],
    ['through a symlink into the home', () => file('link/out'), 'OUTPUT_INVALID', 2],
    ['into no folder', () => file('nowhere/out'), 'OUTPUT_INVALID', 2],
    ['onto a folder', () => work, 'OUTPUT_INVALID', 2],
    ['onto a file that exists', () => file('exists'), 'OUTPUT_EXISTS', 13],
  ])('would write %s', (_where, output, code, exit) => {
    rmSync(file('link'), { force: true });
    symlinkSync(join(appliance.home, 'backups'), file('link'));
    writeFileSync(file('exists'), 'mine');
    const jobs = call('GET', '/jobs').body;
    const body = { backup_id: backupId, output: output() };
    expectProblem(call('POST', '/restore/disk', body), exit === 13 ? 409 : 400, code);
    const result = appliance.ctl('restore', 'disk', '--backup-id', backupId, '--output', output());
    expect(call('GET', '/jobs').body).toBe(jobs);
    expect(result.stderr).toContain(`(${code})`);
    expect(result.code).toBe(exit);
    expect(readFileSync(file('exists'), 'utf8')).toBe('mine');
    expect(readdirSync(join(appliance.home, 'backups'))).not.toContain('out');
  });
});
