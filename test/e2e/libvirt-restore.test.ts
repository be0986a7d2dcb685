import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { sh } from '../support/guest-disk.ts';
import { type DiskSetup, LibvirtHost } from '../support/libvirt-host.ts';
import { expectFailure, Operator } from '../support/operator.ts';

const host = new LibvirtHost();
const appliance = new TestAppliance();
const operator = new Operator(appliance);
const qcow2 = (target: string, sizeMib = 16): DiskSetup => ({ target, format: 'qcow2', sizeMib });
const card = `<interface type='user'><mac address='52:54:00:11:22:33'/><model type='virtio'/></interface>`;
let backupId: string;

beforeAll(async () => {
  await host.start();
  await appliance.start([`libvirt.scratch_folder=${host.disks}`, 'libvirt.scratch_mib=16']);
  host.define('gold', [qcow2('vda', 64), qcow2('vdb')], card);
  host.run('gold');
  host.write('gold', 'vda', 'write -P 0x11 0 24M', 'write -P 0x22 40M 1M');
  host.write('gold', 'vdb', 'write -P 0x33 1M 1M');
  appliance.json('vm', 'add', 'gold', '--libvirt', 'gold', '--uri', host.uri, '--no-freeze');
  operator.backUp('gold');
  host.write('gold', 'vda', 'write -P 0x44 1M 64k', 'write -z 3M 1M');
  backupId = operator.backUp('gold').backup_id;
}, 60_000);
afterAll(async () => {
  await appliance.dispose();
  await host.dispose();
}, 60_000);

const restore = (...more: string[]) => appliance.ctl('restore', 'vm', '--backup-id', backupId, ...more);
const uuidOf = (name: string) => host.virsh('domuuid', name).trim();
/** What the restored machine has on its disks is what the old one had. */
function expectSameDisks(name: string): void {
  for (const target of ['vda', 'vdb']) {
    const copy = join(host.folder, 'copy.raw');
    const image = join(host.disks, `${name}-${target}.qcow2`);
    sh('qemu-img', 'convert', '-U', '-O', 'raw', image, copy);
    sh('cmp', copy, host.rawCopy('gold', target));
    expect(sh('qemu-img', 'info', '-U', image)).not.toContain('backing file');
  }
}

it('makes a machine of its own beside the old one, that starts', () => {
  const done = restore();
  expect(done.stderr).toContain('gold-restored is there');
  expect(done.code).toBe(0);
  expectSameDisks('gold-restored');
  const xml = host.virsh('dumpxml', 'gold-restored');
  expect(uuidOf('gold-restored')).not.toBe(uuidOf('gold'));
  expect(xml).not.toContain('<interface');
  expect(xml).toContain('pc-i440fx');
  host.run('gold-restored');
  expect(host.virsh('domstate', 'gold-restored')).toContain('paused');
  const again = restore();
  expectFailure(again, 'DOMAIN_EXISTS', 13);
});

it('puts it on the same networks with new addresses, or is the old machine again', () => {
  expect(restore('--name', 'net', '--network', 'same').code).toBe(0);
  const xml = host.virsh('dumpxml', 'net');
  expect(xml).toContain('<interface');
  expect(xml).not.toContain('52:54:00:11:22:33');
  const uuid = uuidOf('gold');
  expectFailure(restore('--name', 'twin', '--network', 'same', '--keep-identity'), 'LIBVIRT_FAILED', 21);
  // nothing of a restore that failed stays
  expect(existsSync(join(host.disks, 'twin-vda.qcow2'))).toBe(false);
  host.virsh('destroy', 'gold');
  host.virsh('undefine', 'gold', '--checkpoints-metadata');
  expect(restore('--name', 'twin', '--network', 'same', '--keep-identity').code).toBe(0);
  expect(uuidOf('twin')).toBe(uuid);
  expect(host.virsh('dumpxml', 'twin')).toContain('52:54:00:11:22:33');
  host.virsh('undefine', 'twin');
  host.define('gold', [qcow2('vda', 64), qcow2('vdb')], card);
  host.run('gold');
});

it('starts at once on the backup, copies behind, and lets go of it', () => {
  const done = restore('--name', 'now', '--instant');
  expect(done.stderr).toContain('now runs');
  expect(done.code).toBe(0);
  expect(host.virsh('domstate', 'now')).toContain('running');
  host.virsh('suspend', 'now');
  expectSameDisks('now');
  const { exports } = appliance.json<{ exports: unknown[] }>('restore', 'live', 'list');
  expect(exports).toEqual([]);
  appliance.json('verify', 'backup', backupId, '--wait');
});

it('brings the UEFI variables back', () => {
  host.define('uefi', [qcow2('vda')]);
  const firmware = (name: string, size: string) => {
    const path = join(host.disks, name);
    host.asNobody('sh', ['-c', `head -c ${size} /dev/urandom >${path}`]);
    return path;
  };
  const code = firmware('code.fd', '1M');
  const variables = firmware('uefi_VARS.fd', '128K');
  const xml = host
    .virsh('dumpxml', 'uefi')
    .replace(
      '</type>',
      `</type><loader readonly='yes' type='pflash'>${code}</loader><nvram>${variables}</nvram>`,
    )
    .replace('</os>', '</os><features><acpi/></features>');
  host.withFile(xml, (file) => host.virsh('define', file));
  host.run('uefi');
  appliance.json('vm', 'add', 'uefi', '--libvirt', 'uefi', '--uri', host.uri, '--no-freeze');
  const { backup_id } = operator.backUp('uefi');
  const before = sh('sha256sum', variables).split(' ')[0];
  sh('rm', variables);
  expect(appliance.ctl('restore', 'vm', '--backup-id', backup_id, '--name', 'uefi2').code).toBe(0);
  const restored = join(host.disks, 'uefi2_VARS.fd');
  expect(sh('sha256sum', restored)).toContain(before);
  expect(host.virsh('dumpxml', 'uefi2')).toContain(restored);
  host.run('uefi2');
});

it('goes on with its chain when the catalogue was lost', async () => {
  await appliance.stop();
  sh('sh', '-c', `rm ${join(appliance.home, 'state')}/catalog.db*`);
  await appliance.start([`libvirt.scratch_folder=${host.disks}`, 'libvirt.scratch_mib=16']);
  appliance.json('vm', 'add', 'uefi', '--libvirt', 'uefi', '--uri', host.uri, '--no-freeze');
  host.write('uefi', 'vda', 'write -P 0x66 1M 64k');
  expect(operator.backUp('uefi').disks).toMatchObject([
    { backup_type: 'incremental', written_bytes: 64 * 1024 },
  ]);
});

it('says so when there is no machine in a backup, or nothing that could run it', () => {
  const raw = join(host.folder, 'plain.raw');
  sh('truncate', '-s', '4M', raw);
  appliance.json('vm', 'add', 'plain', '--disk', raw);
  const { backup_id } = operator.backUp('plain');
  expectFailure(appliance.ctl('restore', 'vm', '--backup-id', backup_id), 'NO_CONFIGURATION', 13);
  expectFailure(restore('--to-libvirt', 'test:///default'), 'LIBVIRT_URI_INVALID', 2);
});
