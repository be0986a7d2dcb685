import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { bytesOf, insideDisk, makePlainDisk, sh } from '../support/guest-disk.ts';
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

it.each(['ext4', 'xfs', 'btrfs'])('a long file of %s comes as it is, whole and in part', (type) => {
  const sizeMib = 320;
  const path = file(type);
  makePlainDisk(path, sizeMib);
  sh(`mkfs.${type}`, ...(type === 'ext4' ? ['-q', '-F'] : ['-q', '-f']), path);
  const content = bytesOf(type, 40 * 1024 * 1024 + 777);
  writeFileSync(file('long'), content);
  insideDisk(path, { offsetBytes: 0, sizeBytes: sizeMib * 1024 * 1024 }, (root) =>
    sh('cp', file('long'), join(root, 'long')),
  );
  appliance.json('vm', 'add', type, '--disk', path);
  appliance.json('backup', 'start', '--vm', type, '--wait');
  const { mount_id } = appliance.json<{ mount_id: string }>(
    'backup',
    'mount',
    '--backup-id',
    `latest:${type}`,
  );
  const fetched = (...more: string[]) => {
    const socket = join(appliance.home, 'run', 'sendensed.sock');
    const url = `http://d/api/v1/restore/${mount_id}/download?path=/long`;
    sh('curl', '-sf', '--unix-socket', socket, '-o', file('fetched'), ...more, url);
    return file('fetched');
  };
  sh('cmp', fetched(), file('long'));
  writeFileSync(file('part'), content.subarray(1_000_001, 30_000_003));
  sh('cmp', fetched('-H', 'Range: bytes=1000001-30000002'), file('part'));
  appliance.ctl('mount', 'remove', mount_id);
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
