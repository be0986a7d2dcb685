import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
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
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { bin, TestAppliance } from '../support/appliance.ts';
import { FuseSource } from '../support/fuse-source.ts';
import { bytesOf, insideDisk, makePlainDisk, sh } from '../support/guest-disk.ts';

const MIB = 1024 * 1024;
const work = mkdtempSync(join(tmpdir(), 'sd-bad-'));
const appliance = new TestAppliance();
const file = (name: string) => join(work, name);
const slow = new FuseSource(file('slow'), file('slow.shown'), { bytesPerSecond: 4 * MIB });
let backupId = '';

interface Answer {
  readonly status: number;
  readonly headers: string;
  readonly body: string;
}

/** A request as any client could send it, byte for byte. */
function call(method: string, path: string, body?: unknown, ...headers: string[]): Answer {
  const target = ['--unix-socket', join(appliance.home, 'run', 'sendensed.sock'), `http://d/api/v1${path}`];
  const json = body === undefined ? [] : ['-H', 'Content-Type: application/json', '--data-binary', '@-'];
  const input = body === undefined ? '' : typeof body === 'string' ? body : JSON.stringify(body);
  const result = spawnSync(
    'curl',
    [
      '-s',
      '-g',
      '-i',
      '--path-as-is',
      '-X',
      method,
      ...headers.flatMap((header) => ['-H', header]),
      '-H',
      'Expect:',
      ...json,
      ...target,
    ],
    { input, encoding: 'latin1', maxBuffer: 64 * MIB },
  );
  const cut = result.stdout.indexOf('\r\n\r\n');
  return {
    status: Number(/^HTTP\/1.1 (\d+)/.exec(result.stdout)?.[1]),
    headers: result.stdout.slice(0, cut),
    body: result.stdout.slice(cut + 4),
  };
}

function expectProblem(answer: Answer, status: number, code: string): void {
  expect(answer.headers).toMatch(/content-type: application\/problem\+json/i);
  expect(JSON.parse(answer.body)).toMatchObject({ status, code, type: `urn:sendense:error:${code}` });
  expect(answer.status).toBe(status);
}

/** Everything a refused request must not change. */
const state = () =>
  ['/vms', '/backup/list', '/repositories', '/restore/mounts', '/jobs'].map((path) =>
    call('GET', path).body.replace(/"(available|used|total|free)_bytes":\d+/g, ''),
  );

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
  writeFileSync(file('slow'), bytesOf('slow', 32 * MIB));
  await slow.start();
  await appliance.start();
  appliance.json('vm', 'add', 'm', '--disk', file('disk'));
  backupId = appliance.json<{ backup_id: string }>('backup', 'start', '--vm', 'm', '--wait').backup_id;
});
afterAll(async () => {
  await appliance.dispose();
  await slow.stop();
  rmSync(work, { recursive: true, force: true });
});

describe('a request that is refused', () => {
  let before: string[] = [];
  beforeEach(() => {
    before = state();
  });
  afterEach(() => {
    expect(state()).toEqual(before);
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

  const tricks = [
    '..',
    '../..',
    '%2e%2e',
    '%2e%2e%2f%2e%2e%2fetc',
    '..%2f..%2fetc%2fshadow',
    '%00',
    'm%00',
    'm%0a',
    '%0d%0aX:%20y',
    'x'.repeat(5000),
    '%C3%BC',
    '%E2%80%AE',
    '%ff',
    '%',
    '%zz',
    '-rf',
    "'%20or%20'1'='1",
    '%25',
    '*',
    '{m}',
  ];
  it.each([
    'GET /vms/?',
    'PATCH /vms/?',
    'DELETE /vms/?',
    'GET /backup/?',
    'DELETE /backup/?',
    'GET /jobs/?',
    'POST /jobs/?/cancel',
    'GET /jobs/?/events',
    'GET /restore/?/files',
    'GET /restore/?/download?path=/etc/shadow',
    'DELETE /restore/?',
    'POST /repositories/?/test',
    'GET /backup/list?vm_name=?',
    'GET /backup/list?cursor=?',
    'GET /backup/chain?vm_name=?',
  ])('plays tricks with the name in %s', (route) => {
    const [method = '', path = ''] = route.split(' ');
    for (const trick of tricks) {
      const cut = path.lastIndexOf('?') > 0 && path.endsWith('=?') ? path.length - 1 : path.indexOf('?');
      const answer = call(
        method,
        path.slice(0, cut) + trick + path.slice(cut + 1),
        method === 'PATCH' ? {} : undefined,
      );
      expect(answer.headers, trick.slice(0, 40)).toMatch(/application\/problem\+json/i);
      expect([400, 404], trick.slice(0, 40)).toContain(answer.status);
      expect(answer.body).not.toContain('root:');
    }
  });

  it('wants to write where it must not', () => {
    const restore = (output: unknown) => call('POST', '/restore/disk', { backup_id: backupId, output });
    for (const output of ['', 5, null]) expectProblem(restore(output), 400, 'REQUEST_INVALID');
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

describe('a crafted qcow2 as a disk', () => {
  const image = (...create: string[]) => {
    rmSync(file('crafted'), { force: true });
    sh('qemu-img', 'create', '-q', '-f', 'qcow2', ...create, file('crafted'), '1M');
  };
  const expectRefused = (...more: string[]) => {
    const result = appliance.ctl('vm', 'add', 'crafted', '--disk', file('crafted'), ...more);
    expect(result.stderr).toContain('(SOURCE_HEADER_REFUSED)');
    expect(result.code).toBe(20);
    expect(result.stderr + result.stdout).not.toContain('root:');
    expect(appliance.ctl('vm', 'show', 'crafted').code).toBe(10);
  };

  it.each([
    ['a backing file of this host', ['-u', '-b', '/etc/shadow', '-F', 'raw']],
    ['a backing file in json', ['-u', '-b', 'json:{"driver":"file","filename":"/etc/shadow"}', '-F', 'raw']],
    ['a backing file on the network', ['-u', '-b', 'nbd://127.0.0.1:10809/x', '-F', 'raw']],
    ['a protocol as backing file', ['-u', '-b', 'file:/etc/shadow', '-F', 'raw']],
    ['a backing file of unknown format', ['-u', '-b', 'x.vmdk', '-F', 'vmdk']],
    ['an external data file', ['-o', `data_file=${join(work, 'data')}`]],
  ])('is refused for %s', (_why, create) => {
    image(...create);
    expectRefused();
    // no folder can allow what is no file
    if (!create.includes('vmdk')) expectRefused('--allow-backing', '/dev/shm');
  });

  it('is refused for encryption', () => {
    image();
    const bytes = readFileSync(file('crafted'));
    bytes.writeUInt32BE(1, 32); // crypt_method: AES
    writeFileSync(file('crafted'), bytes);
    expectRefused();
  });

  it('is refused when its backing files are a loop', () => {
    image('-u', '-b', file('other'), '-F', 'qcow2');
    sh(
      'qemu-img',
      'create',
      '-q',
      '-f',
      'qcow2',
      '-u',
      '-b',
      file('crafted'),
      '-F',
      'qcow2',
      file('other'),
      '1M',
    );
    expectRefused('--allow-backing', work);
  });

  it('may have a backing file in an allowed folder, but none outside or through a link', () => {
    mkdirSync(file('allowed'));
    sh('qemu-img', 'create', '-q', '-f', 'qcow2', file('allowed/base'), '1M');
    sh('qemu-io', '-f', 'qcow2', '-c', 'write -P 5 0 64k', file('allowed/base'));
    symlinkSync('/etc/shadow', file('allowed/link'));
    image('-u', '-b', file('allowed/link'), '-F', 'raw');
    expectRefused('--allow-backing', file('allowed'));
    image('-u', '-b', file('allowed/../disk'), '-F', 'raw');
    expectRefused('--allow-backing', file('allowed'));
    mkdirSync(file('allowed-not'));
    copyFileSync(file('allowed/base'), file('allowed-not/base'));
    image('-u', '-b', file('allowed-not/base'), '-F', 'qcow2');
    expectRefused('--allow-backing', file('allowed'));
    image('-b', file('allowed/base'), '-F', 'qcow2');
    appliance.json('vm', 'add', 'backed', '--disk', file('crafted'), '--allow-backing', file('allowed'));
    const { backup_id } = appliance.json<{ backup_id: string }>(
      'backup',
      'start',
      '--vm',
      'backed',
      '--wait',
    );
    appliance.json('restore', 'disk', '--backup-id', backup_id, '--output', file('backed.raw'));
    sh('qemu-img', 'compare', '-f', 'raw', '-F', 'qcow2', file('backed.raw'), file('crafted'));
    // the header turns bad after the machine was added
    image('-u', '-b', '/etc/shadow', '-F', 'raw');
    const later = appliance.ctl('backup', 'start', '--vm', 'backed', '--wait');
    expect(later.stderr).toContain('(SOURCE_HEADER_REFUSED)');
    expect(later.code).toBe(20);
  });
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

describe('a download', () => {
  let mount = '';
  beforeAll(() => {
    mount = appliance.json<{ mount_id: string }>('backup', 'mount', '--backup-id', backupId).mount_id;
  });
  afterAll(() => {
    expect(appliance.ctl('mount', 'remove', mount).code).toBe(0);
  });
  const download = (path: string, ...headers: string[]) =>
    call('GET', `/restore/${mount}/download?path=${encodeURIComponent(path)}`, undefined, ...headers);

  it('gives ranges, and refuses those outside', () => {
    const whole = download('/folder/digits.txt');
    expect([whole.status, whole.body]).toEqual([200, '0123456789']);
    const etag = /etag: (.*)\r/i.exec(`${whole.headers}\r`)?.[1] ?? '';
    const part = download('/folder/digits.txt', 'Range: bytes=2-4');
    expect([part.status, part.body]).toEqual([206, '234']);
    expect(part.headers).toMatch(/content-range: bytes 2-4\/10/i);
    expect(download('/folder/digits.txt', 'Range: bytes=-3').body).toBe('789');
    expect(download('/folder/digits.txt', 'Range: bytes=8-99').body).toBe('89');
    const outside = download('/folder/digits.txt', 'Range: bytes=10-');
    expectProblem(outside, 416, 'RANGE_INVALID');
    expect(outside.headers).toMatch(/content-range: bytes \*\/10/i);
    expect(download('/folder/digits.txt', 'Range: bytes=2-4', `If-Range: ${etag}`).status).toBe(206);
    expect(download('/folder/digits.txt', 'Range: bytes=2-4', 'If-Range: "other"')).toMatchObject({
      status: 200,
      body: '0123456789',
    });
    expect(download('/folder/digits.txt', `If-None-Match: ${etag}`).status).toBe(304);
  });

  it('never leaves the guest', () => {
    const shadow = readFileSync('/etc/shadow', 'latin1').slice(0, 20);
    for (const path of [
      '/absolute',
      '/relative',
      '/root/etc/shadow',
      '/magic/shadow',
      '/../../../../etc/shadow',
      '/folder/../../etc/shadow',
      '/etc/shadow',
      '/root/proc/self/root/etc/shadow',
      `/${'x'.repeat(300)}`,
      '/a\0b',
      'relative/path',
    ]) {
      const answer = download(path);
      expect(answer.body, path).not.toContain(shadow);
      expect(answer.headers, path).toMatch(/application\/problem\+json/i);
      expect([400, 404, 409], path).toContain(answer.status);
      const extracted = appliance.ctl(
        'backup',
        'extract',
        '--backup-id',
        backupId,
        '--file',
        path.replaceAll('\0', ''),
        '--output',
        file('extracted'),
      );
      expect(extracted.code, path).not.toBe(0);
      expect(existsSync(file('extracted')), path).toBe(false);
    }
  });

  it('takes long names of any script', () => {
    const name = `${'ä'.repeat(40)}.txt`;
    expect(appliance.ctl('mount', 'files', mount, '-o', 'name').stdout).toContain(name);
    expect(download(`/${name}`)).toMatchObject({ status: 200, body: 'umlauts' });
    mkdirSync(file('into'));
    expect(
      appliance.ctl(
        'backup',
        'extract',
        '--backup-id',
        backupId,
        '--file',
        `/${name}`,
        '--output',
        file('into'),
      ).code,
    ).toBe(0);
    expect(readFileSync(join(file('into'), name), 'utf8')).toBe('umlauts');
  });

  it('keeps its backup from being deleted', () => {
    expectProblem(call('DELETE', `/backup/${backupId}?cascade=true`), 409, 'BACKUP_BUSY');
    expect(appliance.ctl('backup', 'delete', backupId, '--cascade').code).toBe(11);
    expect(appliance.ctl('backup', 'show', backupId).code).toBe(0);
  });
});

describe('the programs themselves', () => {
  it('end with the documented codes', () => {
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
      [['restore', 'disk', '--backup-id', backupId, '--output', file('out'), '--as', 'vmdk'], 'raw, qcow2'],
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

  it('print a document for every command that changes something', () => {
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

  it('tell what is missing and what to do next', () => {
    const { checks } = appliance.json<{ checks: { check: string; result: string }[] }>('doctor');
    expect(checks.filter((finding) => finding.result !== 'ok')).toEqual([]);
    expect(checks.map((finding) => finding.check)).toEqual(
      expect.arrayContaining(['qemu', 'user', 'fuse', 'programs', 'clock', 'repository local']),
    );
    const away = spawnSync(bin('sendense-ctl'), ['--home', file('nowhere'), 'doctor'], { encoding: 'utf8' });
    expect([away.status, away.stdout]).toEqual([21, expect.stringMatching(/daemon +FAILED/)]);
    expect(away.stderr).toContain(`sendensed --home ${file('nowhere')}`);
  });

  it('keep a second daemon away from the home', () => {
    const second = spawnSync(bin('sendensed'), ['--home', appliance.home], {
      encoding: 'utf8',
      timeout: 30_000,
    });
    expect(second.stderr).toContain('(DAEMON_RUNNING)');
    expect(second.stderr).toContain(String(appliance.pid));
    expect(second.status).toBe(21);
    expect(appliance.ctl('status').code).toBe(0);
  });

  it('refuse settings that do not exist, and say where each comes from', async () => {
    await appliance.stop();
    expect(appliance.leftovers()).toEqual([]);
    const config = join(appliance.home, 'etc', 'sendense.toml');
    mkdirSync(join(appliance.home, 'etc'), { recursive: true });
    const daemon = (...args: string[]) =>
      spawnSync(bin('sendensed'), ['--home', appliance.home, ...args], { encoding: 'utf8', timeout: 30_000 });
    for (const text of [
      '[chain]\nmax_dept = 5\n',
      '[chian]\n',
      '[chain]\nmax_depth = "5"\n',
      '[chain]\nmax_depth = 0\n',
      'broken [',
    ]) {
      writeFileSync(config, text);
      const result = daemon();
      expect(result.stderr, text).toContain('(CONFIG_INVALID)');
      expect(result.status, text).toBe(2);
    }
    writeFileSync(config, '[chain]\nmax_depth = 7\n');
    expect(daemon('--set', 'chain.depth=5').status).toBe(2);
    await appliance.start(['jobs.max_concurrent=3']);
    const shown = appliance.ctl('config', 'show', '--origin').stdout;
    expect(shown).toMatch(/chain\.max_depth +7 +\S*(file|toml)/);
    expect(shown).toMatch(/jobs\.max_concurrent +3 +\S*(flag|set|command)/);
    expect(shown).toMatch(/log\.level +info +default/);
  });

  it('stop cleanly in the middle of a backup', async () => {
    if (!readdirSync(work).includes('slow.link')) appliance.json('vm', 'add', 'one', '--disk', slow.path);
    const { job_id } = appliance.json<{ job_id: string }>('backup', 'start', '--vm', 'one');
    await sleep(300); // any moment will do
    await appliance.stop();
    expect(appliance.leftovers()).toEqual([]);
    expect(appliance.processes('sendense-mover')).toEqual([]);
    expect(existsSync(join(appliance.home, 'run', 'sendensed.sock'))).toBe(false);
    expect(
      readdirSync(join(appliance.home, 'backups'), { recursive: true }).filter((name) =>
        /partial|written|tmp/.test(String(name)),
      ),
    ).toEqual([]);
    await appliance.start();
    expect(appliance.json<{ status: string; error: { code: string } }>('job', 'show', job_id)).toMatchObject({
      status: 'failed',
      error: { code: 'INTERRUPTED' },
    });
  });
});
