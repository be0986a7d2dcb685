import { mkdirSync, mkdtempSync, readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { bytesOf, sh } from '../support/guest-disk.ts';
import { until } from '../support/operator.ts';
import { type Job, verifyTools } from '../support/verify-tools.ts';

const MIB = 1024 * 1024;

describe('a verification', () => {
  const work = mkdtempSync(join(tmpdir(), 'sd-verify-'));
  const appliance = new TestAppliance();
  const { backUp, show, verify, job, events } = verifyTools(appliance);
  const settings = ['exports.backend=storage-daemon', 'repository.reserve_bytes=0'];
  const disk = join(work, 'disk');
  const root = join(work, 'mnt');

  beforeAll(async () => {
    writeFileSync(join(work, 'fs'), '');
    truncateSync(join(work, 'fs'), 64 * MIB);
    sh('mkfs.ext4', '-q', '-F', join(work, 'fs'));
    mkdirSync(root);
    sh('mount', '-o', 'loop', join(work, 'fs'), root);
    writeFileSync(disk, bytesOf('disk', 12 * MIB));
    await appliance.start(settings);
    appliance.json('repository', 'add', 'other', '--path', join(root, 'backups'));
    appliance.json('vm', 'add', 'm', '--disk', disk);
    backUp('m');
  });
  afterAll(async () => {
    await appliance.dispose();
    try {
      sh('umount', root);
    } finally {
      rmSync(work, { recursive: true, force: true });
    }
  });

  it('keeps its verdict in the catalogue when the repository can only be read', async () => {
    const { backup_id } = backUp('m', 'full', '--repository', 'other');
    await appliance.stop(); // it holds a lock there
    sh('mount', '-o', 'remount,ro', root);
    await appliance.start(settings);
    try {
      const done = verify('backup', backup_id);
      expect(done).toMatchObject({ status: 'completed', result: { bad: 0 } });
      expect(done.warnings.join()).toContain('could not be written beside');
      expect(show(backup_id).verified_ok).toBe(true);
    } finally {
      await appliance.stop();
      sh('mount', '-o', 'remount,rw', root);
      await appliance.start(settings);
    }
  });

  it('is refused when there is nothing to look at, or when one is under way', async () => {
    const post = (body: unknown) => {
      const { status, body: text } = appliance.rest('POST', '/api/v1/verify', body);
      return [status, (JSON.parse(text) as { code?: string }).code];
    };
    expect(post({ backup_id: 'nothing' })).toEqual([404, 'BACKUP_UNKNOWN']);
    expect(post({ vm_name: 'nobody' })).toEqual([404, 'VM_UNKNOWN']);
    expect(post({ repository: 'nowhere' })).toEqual([404, 'REPOSITORY_UNKNOWN']);
    for (const body of [
      {},
      { vm_name: 'm', repository: 'local' },
      { vm_name: 'm', rate_mib_per_s: 0 },
      { vm: 'm' },
    ])
      expect(post(body)).toEqual([400, 'REQUEST_INVALID']);
    appliance.json('vm', 'add', 'empty', '--disk', join(work, 'fs'));
    expect(post({ vm_name: 'empty' })).toEqual([409, 'NOTHING_TO_VERIFY']);
    const started = appliance.json<Job>('verify', 'vm', 'm', '--rate', '1');
    await until('it reads', () => job(started.job_id).progress.transferred_bytes >= MIB);
    expect(post({ vm_name: 'm' })).toEqual([409, 'VERIFY_BUSY']);
    expect(post({ repository: 'local' })).toEqual([409, 'VERIFY_BUSY']);
    // a backup does not wait for it
    expect(backUp('m').disks[0]?.backup_type).toBe('incremental');
    expect(job(started.job_id).status).toBe('running');
    expect(appliance.ctl('job', 'cancel', started.job_id).code).toBe(0);
    expect(appliance.ctl('job', 'watch', started.job_id).code).toBe(130);
    expect(events('verify.cancelled')).toHaveLength(1);
    expect(appliance.processes('qemu-storage-daemon')).toHaveLength(1);
    expect(readdirSync(join(appliance.home, 'run', 'verify'))).toEqual([]);
    expect(verify('vm', 'm').result.bad).toBe(0);
  });

  it('under way ends with the daemon and leaves nothing', async () => {
    const started = appliance.json<Job>('verify', 'vm', 'm', '--rate', '1');
    await until('it reads', () => job(started.job_id).progress.transferred_bytes >= MIB);
    await appliance.kill();
    await appliance.start(settings);
    expect(job(started.job_id)).toMatchObject({ status: 'failed', error: { code: 'INTERRUPTED' } });
    expect(readdirSync(join(appliance.home, 'run', 'verify'))).toEqual([]);
    const again = appliance.json<Job>('verify', 'vm', 'm', '--rate', '1');
    await until('it reads', () => job(again.job_id).progress.transferred_bytes >= MIB);
    await appliance.stop();
    expect(appliance.leftovers()).toEqual([]);
    expect(readdirSync(join(appliance.home, 'run', 'verify'))).toEqual([]);
    await appliance.start(settings);
  });
});
