import {
  copyFileSync,
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
import { makePlainDisk, sh } from '../support/guest-disk.ts';

const work = mkdtempSync(join(tmpdir(), 'sd-bad-'));
const appliance = new TestAppliance();
const file = (name: string) => join(work, name);

beforeAll(async () => {
  makePlainDisk(file('disk'), 16);
  await appliance.start();
  appliance.json('vm', 'add', 'm', '--disk', file('disk'));
});
afterAll(async () => {
  await appliance.dispose();
  rmSync(work, { recursive: true, force: true });
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
