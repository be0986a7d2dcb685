import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { FuseSource } from '../support/fuse-source.ts';
import { bytesOf, makePlainDisk } from '../support/guest-disk.ts';
import { expectProblem, requestTo } from '../support/rest-client.ts';

const MIB = 1024 * 1024;
const work = mkdtempSync(join(tmpdir(), 'sd-bad-'));
const appliance = new TestAppliance();
const file = (name: string) => join(work, name);
const call = requestTo(appliance);
const slow = new FuseSource(file('slow'), file('slow.shown'), { bytesPerSecond: 4 * MIB });

beforeAll(async () => {
  makePlainDisk(file('disk'), 16);
  writeFileSync(file('slow'), bytesOf('slow', 32 * MIB));
  await slow.start();
  await appliance.start();
  appliance.json('vm', 'add', 'm', '--disk', file('disk'));
});
afterAll(async () => {
  await appliance.dispose();
  await slow.stop();
  rmSync(work, { recursive: true, force: true });
});

describe('two at once', () => {
  it('is refused for one machine or one disk, with the job that holds it', async () => {
    appliance.json('vm', 'add', 'one', '--disk', slow.path);
    symlinkSync(slow.path, file('slow.link'));
    appliance.json('vm', 'add', 'two', '--disk', file('slow.link'));
    const { job_id } = appliance.json<{ job_id: string }>('backup', 'start', '--vm', 'one');
    slow.pause();
    try {
      const again = call('POST', '/backup/start', { vm_name: 'one' });
      expectProblem(again, 409, 'VM_BUSY');
      expect(again.body).toContain(job_id);
      const other = call('POST', '/backup/start', { vm_name: 'two' });
      expectProblem(other, 409, 'DISK_BUSY');
      expect(other.body).toContain(job_id);
      expectProblem(call('DELETE', '/vms/one'), 409, 'VM_BUSY');
      expectProblem(call('PATCH', '/vms/one', { before: 'true' }), 409, 'VM_BUSY');
      expect(appliance.ctl('backup', 'start', '--vm', 'one', '--wait').code).toBe(11);
      expect(appliance.ctl('job', 'cancel', job_id).code).toBe(0);
    } finally {
      slow.resume();
    }
    expect(appliance.ctl('job', 'watch', job_id).code).toBe(130);
    const [event] = appliance.json<{ events: object[] }>('events', '--limit', '1').events;
    expect(event).toMatchObject({ kind: 'backup.cancelled', severity: 'warning' });
    expect(appliance.json<{ jobs: object[] }>('job', 'list', '--limit', '1').jobs).toHaveLength(1);
    expectProblem(call('POST', `/jobs/${job_id}/cancel`), 409, 'JOB_FINISHED');
  });

  it('is no secret when an incremental has no parent', () => {
    writeFileSync(file('fresh'), bytesOf('fresh', MIB));
    appliance.json('vm', 'add', 'fresh', '--disk', file('fresh'));
    const result = appliance.ctl(
      'backup',
      'start',
      '--vm',
      'fresh',
      '--type',
      'incremental',
      '--wait',
      '-o',
      'json',
    );
    expect(result.stderr).toContain('Disk 0 is a full: this disk has no earlier backup in this repository');
    expect(result.stderr).not.toContain('warning');
    expect(JSON.parse(result.stdout)).toMatchObject({
      backup_type: 'incremental',
      disks: [
        { backup_type: 'full', unexpected: false, reason: expect.stringContaining('no earlier backup') },
      ],
    });
    expect(appliance.ctl('backup', 'list', '--vm', 'fresh').stdout).toMatch(/ full +completed .* 0:full\n$/);
    const events = appliance.json<{ events: { kind: string; severity: string }[] }>('events', '--limit', '2');
    expect(events.events.map((event) => [event.kind, event.severity])).toEqual([
      ['backup.completed', 'info'],
      ['backup.became_full', 'info'],
    ]);
  });
});

describe('an Idempotency-Key', () => {
  it('runs a request once, and refuses another one', () => {
    const key = 'Idempotency-Key: once';
    const body = { name: 'keyed', disks: [{ path: file('disk') }] };
    const first = call('POST', '/vms', body, key);
    expect(first.status).toBe(201);
    const second = call('POST', '/vms', body, key);
    expect([second.status, second.body]).toEqual([201, first.body]);
    expectProblem(call('POST', '/vms', { ...body, name: 'other' }, key), 422, 'IDEMPOTENCY_MISMATCH');
    expectProblem(call('POST', '/vms', body), 409, 'VM_EXISTS');
    expectProblem(call('POST', '/vms', body, `Idempotency-Key: ${'x'.repeat(201)}`), 400, 'REQUEST_INVALID');
  });
});
