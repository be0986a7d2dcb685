import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { makePlainDisk, sh } from '../support/guest-disk.ts';
import { expectProblem, requestTo, stateOf } from '../support/rest-client.ts';

const work = mkdtempSync(join(tmpdir(), 'sd-bad-'));
const appliance = new TestAppliance();
const file = (name: string) => join(work, name);
const call = requestTo(appliance);
let backupId = '';

beforeAll(async () => {
  makePlainDisk(file('disk'), 16);
  await appliance.start();
  appliance.json('vm', 'add', 'm', '--disk', file('disk'));
  backupId = appliance.json<{ backup_id: string }>('backup', 'start', '--vm', 'm', '--wait').backup_id;
});
afterAll(async () => {
  await appliance.dispose();
  rmSync(work, { recursive: true, force: true });
});

describe('a request that is refused', () => {
  let before: string[] = [];
  beforeEach(() => {
    before = stateOf(appliance);
  });
  afterEach(() => {
    expect(stateOf(appliance)).toEqual(before);
  });

  const add = (disks: unknown, name: unknown = 'new', more: object = {}) =>
    call('POST', '/vms', { name, disks, ...more });

  it.each<[string, () => void, number, string]>([
    ['missing', () => undefined, 422, 'SOURCE_MISSING'],
    ['a folder', () => mkdirSync(file('odd')), 422, 'SOURCE_UNREADABLE'],
    ['empty', () => writeFileSync(file('odd'), ''), 422, 'SOURCE_SIZE_INVALID'],
    ['of 1000 bytes', () => writeFileSync(file('odd'), Buffer.alloc(1000)), 422, 'SOURCE_SIZE_INVALID'],
    ['a socket or pipe', () => void sh('mkfifo', file('odd')), 422, 'SOURCE_UNREADABLE'],
    ['a symlink to itself', () => symlinkSync(file('odd'), file('odd')), 422, 'SOURCE_UNREADABLE'],
  ])('has a disk that is %s', (_what, make, status, code) => {
    rmSync(file('odd'), { recursive: true, force: true });
    make();
    expectProblem(add([{ path: file('odd') }]), status, code);
    rmSync(file('odd'), { recursive: true, force: true });
  });

  it('names disks or machines wrongly', () => {
    const path = file('disk');
    expectProblem(add([{ path }, { path }]), 400, 'REQUEST_INVALID');
    expectProblem(add([{ path }, { path: `${work}/./disk` }]), 400, 'REQUEST_INVALID');
    expectProblem(add([{ path: 'disk' }]), 400, 'PATH_INVALID');
    expectProblem(add([{ path: `${path}\n` }]), 400, 'PATH_INVALID');
    expectProblem(add([{ path: `${path}\0` }]), 400, 'PATH_INVALID');
    expectProblem(add([{ path: `/${'x'.repeat(5000)}` }]), 400, 'REQUEST_INVALID');
    expectProblem(add([{ path }], 'm'), 409, 'VM_EXISTS');
    expectProblem(add([]), 400, 'REQUEST_INVALID');
    expectProblem(add([{ path, format: 'vmdk' }]), 400, 'REQUEST_INVALID');
    expectProblem(add([{ path, format: 'qcow2' }]), 422, 'SOURCE_HEADER_REFUSED');
    for (const name of [
      '',
      '.',
      '..',
      '../m',
      'a/b',
      'a\0b',
      'a\nb',
      '-rf',
      'ü',
      'x'.repeat(65),
      'x'.repeat(5000),
      5,
      null,
      {},
      ['m'],
    ])
      expectProblem(add([{ path }], name), 400, 'REQUEST_INVALID');
  });

  it('has the wrong shape', () => {
    const disks = [{ path: file('disk') }];
    for (const body of [
      '',
      '{',
      '[]',
      'null',
      '5',
      '"x"',
      '{"name":',
      '\u0000',
      '{"name":"n","disks":"x"}',
      '{"name":"n","disks":[5]}',
      '{"name":"n","disks":[{}]}',
    ])
      expectProblem(call('POST', '/vms', body), 400, 'REQUEST_INVALID');
    expectProblem(add(disks, 'new', { unknown: 1 }), 400, 'REQUEST_INVALID');
    expectProblem(
      call('POST', '/vms', `{"name":"new","disks":[{"path":"${file('disk')}"}],"__proto__":{"x":1}}`),
      400,
      'REQUEST_INVALID',
    );
    expectProblem(add(disks, 'new', { before: 5 }), 400, 'REQUEST_INVALID');
    expectProblem(add(disks, 'new', { allow_backing: 'x' }), 400, 'REQUEST_INVALID');
    expectProblem(call('POST', '/vms', `{"name":"${'x'.repeat(300_000)}"}`), 413, 'REQUEST_TOO_LARGE');
    const form = call('POST', '/vms', 'name=new', 'Content-Type: application/x-www-form-urlencoded');
    expectProblem(form, 400, 'REQUEST_INVALID');
    expect(form.body).toContain('it must be application/json');
    expect(call('POST', '/backup/start', { vm_name: 'm', backup_type: 'ful' }).body).toContain(
      String.raw`backup_type is \"ful\"; it must be one of full, incremental, differential`,
    );
    expectProblem(
      call('POST', '/backup/start', { vm_name: 'm', backup_type: 'huge' }),
      400,
      'REQUEST_INVALID',
    );
    expectProblem(call('POST', '/backup/start', { vm_name: 'm', wait: 'yes' }), 400, 'REQUEST_INVALID');
    for (const disk of [-1, 1.5, 1e300, 99_999, 'x', {}, '0x1f', '0', null, true, []])
      expectProblem(
        call('POST', '/restore/disk', { backup_id: backupId, disk, output: file('out') }),
        400,
        'REQUEST_INVALID',
      );
    for (const limit of [
      '0',
      '-1',
      '1e3',
      '0x10',
      '%205',
      '5%20',
      '01',
      '+5',
      '5.0',
      '',
      '99999999999999999999',
      'x',
      '1001',
    ])
      expectProblem(call('GET', `/backup/list?limit=${limit}`), 400, 'REQUEST_INVALID');
    expectProblem(call('GET', '/backup/list?unknown=1'), 400, 'REQUEST_INVALID');
    expectProblem(call('GET', '/backup/list?limit=1&limit=2'), 400, 'REQUEST_INVALID');
    expect(existsSync(file('out'))).toBe(false);
  });

  it('goes nowhere', () => {
    expectProblem(call('GET', '/nothing'), 404, 'ROUTE_UNKNOWN');
    expectProblem(call('POST', '/backup/start', { vm_name: 'nobody' }), 404, 'VM_UNKNOWN');
    expectProblem(
      call('POST', '/backup/start', { vm_name: 'm', repository: 'nowhere' }),
      404,
      'REPOSITORY_UNKNOWN',
    );
    expectProblem(call('POST', '/repositories/nowhere/test'), 404, 'REPOSITORY_UNKNOWN');
    expectProblem(call('GET', '/backup/nothing'), 404, 'BACKUP_UNKNOWN');
    expectProblem(call('GET', '/backup/latest:nobody'), 404, 'VM_UNKNOWN');
    expectProblem(call('GET', '/jobs/nothing'), 404, 'JOB_UNKNOWN');
    expectProblem(call('GET', '/restore/nothing/files'), 404, 'MOUNT_UNKNOWN');
    expectProblem(call('DELETE', '/restore/nothing'), 404, 'MOUNT_UNKNOWN');
    expectProblem(
      call('POST', '/restore/disk', { backup_id: backupId, disk: 7, output: file('out') }),
      404,
      'DISK_UNKNOWN',
    );
  });

  it('has a method that the path does not take', () => {
    for (const [method, path, allow] of [
      ['PUT', '/vms', 'POST, GET, HEAD'],
      ['DELETE', '/vms', 'POST, GET, HEAD'],
      ['GET', '/backup/start', 'POST'],
      ['DELETE', '/backup/list', 'GET, HEAD'],
      ['POST', `/backup/${backupId}`, 'GET, DELETE, HEAD'],
      ['DELETE', '/restore/mounts', 'GET, HEAD'],
      ['POST', '/openapi.json', 'GET, HEAD'],
    ] as const) {
      const answer = call(method, path);
      expectProblem(answer, 405, 'METHOD_WRONG');
      expect(answer.headers).toMatch(new RegExp(`^allow: ${allow}\r?$`, 'im'));
    }
    expect(call('OPTIONS', '/vms')).toMatchObject({ status: 204 });
  });

  it('wants to write where it must not', () => {
    const restore = (output: unknown) => call('POST', '/restore/disk', { backup_id: backupId, output });
    for (const output of ['', 5, null]) expectProblem(restore(output), 400, 'REQUEST_INVALID');
  });
});
