import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { sh } from '../support/guest-disk.ts';
import { LibvirtHost } from '../support/libvirt-host.ts';
import { expectFailure, Operator } from '../support/operator.ts';
import { SshHost } from '../support/ssh-host.ts';

const host = new LibvirtHost();
const ssh = new SshHost();
const appliance = new TestAppliance();
const operator = new Operator(appliance);
let uri: string;

beforeAll(async () => {
  await Promise.all([host.start(), ssh.start()]);
  uri = ssh.uri(join(host.folder, 'run', 'libvirt', 'libvirt-sock'));
  await appliance.start([`libvirt.scratch_folder=${host.disks}`, 'libvirt.scratch_mib=16']);
}, 60_000);
afterAll(async () => {
  await appliance.dispose();
  await ssh.dispose();
  await host.dispose();
}, 60_000);

it('backs up and restores a machine of a libvirt behind ssh, running and off', () => {
  host.define('far', [
    { target: 'vda', format: 'qcow2', sizeMib: 16 },
    { target: 'vdb', format: 'qcow2', sizeMib: 16 },
  ]);
  host.run('far');
  host.write('far', 'vda', 'write -P 0x11 1M 4M');
  appliance.json('vm', 'add', 'far', '--libvirt', 'far', '--uri', uri, '--no-freeze');
  operator.backUp('far');
  host.write('far', 'vda', 'write -P 0x12 2M 64k', 'write -z 3M 64k');
  const next = operator.backUp('far');
  expect(next.disks.map(({ backup_type, written_bytes }) => [backup_type, written_bytes])).toEqual([
    ['incremental', 128 * 1024],
    ['incremental', 0],
  ]);
  operator.expectRestored(next.backup_id, 0, host.rawCopy('far', 'vda'));
  host.write('far', 'vdb', 'write -P 0x13 5M 64k');
  host.virsh('destroy', 'far');
  const off = operator.backUp('far');
  expect(off.disks.map(({ written_bytes }) => written_bytes)).toEqual([0, 64 * 1024]);
  operator.expectRestored(off.backup_id, 1, host.rawCopy('far', 'vdb'));
  const done = appliance.ctl('restore', 'vm', '--backup-id', off.backup_id, '--name', 'back', '--start');
  expect(done.stderr).toContain('back runs');
  host.virsh('destroy', 'back');
  for (const target of ['vda', 'vdb']) {
    const copy = join(host.folder, 'copy.raw');
    sh('qemu-img', 'convert', '-O', 'raw', join(host.disks, `back-${target}.qcow2`), copy);
    sh('cmp', copy, host.rawCopy('far', target));
  }
  expect(readdirSync(host.disks).filter((name) => name.startsWith('sendense-'))).toEqual([]);
});

it('says what to do when it cannot log in, and runs nothing that a URI names', () => {
  const wrong = uri.replace(`:${ssh.port}/`, ':1/');
  const failed = appliance.ctl('vm', 'discover', '--libvirt', wrong);
  expectFailure(failed, 'LIBVIRT_FAILED', 21);
  expect(failed.stderr).toContain('Connection refused');
  for (const odd of [`${uri}&command=/bin/true`, 'qemu+ssh://-oProxyCommand=x/system', 'qemu+ext:///system'])
    expectFailure(appliance.ctl('vm', 'discover', '--libvirt', odd), 'LIBVIRT_URI_INVALID', 2);
});

it('keeps no login when it ends', async () => {
  appliance.ctl('vm', 'discover', '--libvirt', uri);
  expect(appliance.processes('ssh')).not.toEqual([]);
  await appliance.stop();
  expect(appliance.processes('ssh')).toEqual([]);
});
