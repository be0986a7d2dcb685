import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { sh } from '../support/guest-disk.ts';
import { type DiskSetup, LibvirtHost } from '../support/libvirt-host.ts';
import { expectFailure, Operator, type ShownBackup, until } from '../support/operator.ts';

const host = new LibvirtHost();
const appliance = new TestAppliance();
const operator = new Operator(appliance);

beforeAll(async () => {
  await host.start();
  await appliance.start([`libvirt.scratch_folder=${host.disks}`, 'libvirt.scratch_mib=16']);
}, 60_000);
afterAll(async () => {
  await appliance.dispose();
  await host.dispose();
}, 60_000);

const qcow2 = (target: string, sizeMib = 16): DiskSetup => ({ target, format: 'qcow2', sizeMib });
const add = (name: string, ...more: string[]) =>
  appliance.json('vm', 'add', name, '--libvirt', name, '--uri', host.uri, '--no-freeze', ...more);
function machine(name: string, ...disks: DiskSetup[]): void {
  host.define(name, disks);
  host.run(name);
  for (const { target } of disks) host.write(name, target, 'write -P 0x11 0 2M', 'write -P 0x22 5M 1M');
  add(name);
}
const types = ({ disks }: ShownBackup) => disks.map(({ backup_type }) => backup_type);
function expectSame(backup: ShownBackup, name: string, ...targets: string[]): void {
  for (const [index, target] of targets.entries())
    operator.expectRestored(backup.backup_id, index, host.rawCopy(name, target));
}
/** Nothing of a backup is left beside the disks. */
const litter = () => readdirSync(host.disks).filter((file) => file.startsWith('sendense-'));

it('backs a running machine up in full and incrementally, zeros over data too', () => {
  machine('one', qcow2('vda', 64), qcow2('vdb', 32));
  const full = operator.backUp('one');
  expect(types(full)).toEqual(['full', 'full']);
  expectSame(full, 'one', 'vda', 'vdb');
  host.write(
    'one',
    'vda',
    'write -P 0x44 1M 64k',
    'write -z -u 0 1M',
    'discard 5M 64k',
    'write -P 0 5632k 64k',
  );
  const next = operator.backUp('one');
  expect(types(next)).toEqual(['incremental', 'incremental']);
  // exactly what was touched: 1 MiB and three times 64 KiB
  expect(next.disks.map(({ written_bytes }) => written_bytes)).toEqual([1216 * 1024, 0]);
  expectSame(next, 'one', 'vda', 'vdb');
  host.write('one', 'vdb', 'write -P 0x55 31M 1M');
  const differential = operator.backUp('one', 'differential');
  expect(types(differential)).toEqual(['differential', 'differential']);
  expectSame(differential, 'one', 'vda', 'vdb');
  expect(appliance.ctl('verify', 'backup', differential.backup_id, '--wait').code).toBe(0);
  expect(litter()).toEqual([]);
  const { machines } = appliance.json<{
    machines: { name: string; registered_as: string; is_running: boolean }[];
  }>('vm', 'discover', '--libvirt', host.uri);
  expect(machines).toMatchObject([{ name: 'one', registered_as: 'one', is_running: true }]);
});

it('goes full for the one disk whose bitmap a crash of QEMU took, and says why', async () => {
  machine('crash', qcow2('vda'), qcow2('vdb'));
  operator.backUp('crash');
  for (const target of ['vda', 'vdb']) host.write('crash', target, 'flush');
  await host.crash('crash');
  // the bitmaps were in memory only; vdb gets one as if it had been saved
  const [checkpoint] = host.checkpoints('crash');
  host.asNobody('qemu-img', [
    'bitmap',
    '--add',
    '-g',
    '65536',
    host.diskPath('crash', 'vdb'),
    checkpoint ?? '',
  ]);
  host.run('crash');
  host.write('crash', 'vda', 'write -P 0x66 3M 1M');
  host.write('crash', 'vdb', 'write -P 0x77 3M 1M');
  const next = operator.backUp('crash');
  expect(types(next)).toEqual(['full', 'incremental']);
  expect(next.disks[0]?.reason).toContain('missing or broken bitmap');
  expectSame(next, 'crash', 'vda', 'vdb');
  const job = appliance.json<{ jobs: { kind: string; backup_id: string; warnings: string[] }[] }>(
    'job',
    'list',
  );
  expect(
    job.jobs
      .find(({ kind, backup_id }) => kind === 'backup' && backup_id === next.backup_id)
      ?.warnings.join(),
  ).toContain('in full instead');
  expect(operator.events('backup.became_full').some(({ message }) => message.includes('broken bitmap'))).toBe(
    true,
  );
  host.write('crash', 'vda', 'write -P 0x12 3M 64k');
  const after = operator.backUp('crash');
  expect(types(after)).toEqual(['incremental', 'incremental']);
  expectSame(after, 'crash', 'vda', 'vdb');
  // the checkpoint that the crash broke is forgotten as soon as no layer needs it
  operator.backUp('crash', 'full');
  operator.backUp('crash', 'full');
  expect(host.checkpoints('crash')).not.toContain(checkpoint);
});

it('goes on incrementally when the domain was defined anew', () => {
  machine('anew', qcow2('vda'));
  operator.backUp('anew');
  host.virsh('destroy', 'anew');
  const xml = host.virsh('dumpxml', 'anew');
  host.virsh('undefine', 'anew', '--checkpoints-metadata');
  host.withFile(xml, (file) => host.virsh('define', file));
  host.run('anew');
  expect(host.checkpoints('anew')).toEqual([]);
  host.write('anew', 'vda', 'write -P 0x31 7M 128k');
  const next = operator.backUp('anew');
  expect(next.disks).toMatchObject([{ backup_type: 'incremental', written_bytes: 128 * 1024 }]);
  expectSame(next, 'anew', 'vda');
});

it('follows disks that are added, removed and grown while the machine runs', () => {
  const controller = `<controller type='scsi' model='virtio-scsi'/>`;
  host.define('hot', [qcow2('sda'), qcow2('sdb')], controller);
  host.run('hot');
  host.write('hot', 'sda', 'write -P 0x11 0 2M');
  host.write('hot', 'sdb', 'write -P 0x12 0 2M');
  add('hot');
  operator.backUp('hot');
  host.makeDisk('hot', qcow2('sdc'));
  host.withFile(host.diskXml('hot', qcow2('sdc')), (file) =>
    host.virsh('attach-device', 'hot', file, '--live'),
  );
  host.write('hot', 'sdc', 'write -P 0x41 1M 1M');
  const added = operator.backUp('hot');
  expect(types(added)).toEqual(['incremental', 'incremental', 'full']);
  expectSame(added, 'hot', 'sda', 'sdb', 'sdc');
  host.virsh('blockresize', 'hot', 'sda', '24M');
  host.write('hot', 'sda', 'write -P 0x42 20M 192k');
  const grown = operator.backUp('hot');
  expect(types(grown)).toEqual(['incremental', 'incremental', 'incremental']);
  expectSame(grown, 'hot', 'sda', 'sdb', 'sdc');
  host.virsh('detach-disk', 'hot', 'sdb', '--live');
  const removed = operator.backUp('hot');
  expect(removed.disks.map(({ disk_id }) => disk_id)).toEqual([0, 2]);
  expect(operator.events('disk.removed')).toMatchObject([{ data: { disk_index: 1 } }]);
  expect(operator.events('disk.added')).toMatchObject([{ data: { disk_index: 2 } }]);
});

it('goes full for a disk that was shrunk and grown again behind the back of its bitmap', () => {
  machine('shrunk', qcow2('vda'));
  operator.backUp('shrunk');
  const resize = (size: number) => {
    const command = { execute: 'block_resize', arguments: { 'node-name': 'libvirt-1-format', size } };
    expect(host.virsh('qemu-monitor-command', 'shrunk', JSON.stringify(command))).not.toContain('error');
  };
  resize(2 << 20);
  resize(16 << 20);
  const next = operator.backUp('shrunk');
  expect(next.disks).toMatchObject([
    { backup_type: 'full', reason: expect.stringContaining('calls byte 5242880 unchanged') },
  ]);
  expectSame(next, 'shrunk', 'vda');
});

it('leaves the checkpoints of others alone, and keeps few of its own', () => {
  machine('foreign', qcow2('vda'));
  host.withFile('<domaincheckpoint><name>virtnbdbackup.0</name></domaincheckpoint>', (file) =>
    host.virsh('checkpoint-create', 'foreign', file),
  );
  for (let round = 1; round < 6; round += 1) {
    host.write('foreign', 'vda', `write -P ${round} ${round}M 64k`);
    const next = operator.backUp('foreign');
    expectSame(next, 'foreign', 'vda');
  }
  const names = host.checkpoints('foreign');
  expect(names).toContain('virtnbdbackup.0');
  expect(names.filter((name) => name.startsWith('sendense-'))).toHaveLength(3);
});

it('refuses a second backup at once, and leaves the first alone', () => {
  machine('busy', qcow2('vda'));
  const socket = join(host.disks, 'other.sock');
  const xml = `<domainbackup mode='pull'><server transport='unix' socket='${socket}'/></domainbackup>`;
  host.withFile(xml, (file) => host.virsh('backup-begin', 'busy', file));
  const started = Date.now();
  const refused = appliance.ctl('backup', 'start', '--vm', 'busy', '--type', 'full', '--wait');
  expectFailure(refused, 'SOURCE_BUSY', 11);
  expect(Date.now() - started).toBeLessThan(20_000);
  expect(existsSync(socket)).toBe(true);
  host.virsh('domjobabort', 'busy');
  expect(host.checkpoints('busy')).toEqual([]);
});

it('gives the bits of a failed backup back: a machine that stops under it', async () => {
  machine('stops', qcow2('vda', 64));
  const first = operator.backUp('stops');
  host.write('stops', 'vda', 'write -P 0x51 8M 48M');
  const before = host.checkpoints('stops');
  // the second checkpoint is there when the job is in its transfer
  const child = appliance.spawnCtl('backup', 'start', '--vm', 'stops', '--type', 'full', '--wait');
  await until('the second checkpoint is there', () => host.checkpoints('stops').length > before.length);
  host.virsh('destroy', 'stops');
  await new Promise((resolve) => child.once('exit', resolve));
  host.run('stops');
  const next = operator.backUp('stops');
  const failed = operator.backups('--vm', 'stops', '--status', 'failed');
  // when it was too quick for us, it was a good backup
  if (failed.length > 0)
    expect(next.disks[0]).toMatchObject({ backup_type: 'incremental', written_bytes: 48 << 20 });
  expectSame(next, 'stops', 'vda');
  expect(first.backup_id).not.toBe(next.backup_id);
  expect(litter()).toEqual([]);
});

it('reads and compares a raw disk beside the others, of all only the chosen ones', () => {
  host.define('mixed', [qcow2('vda'), { target: 'vdb', format: 'raw', sizeMib: 8 }, qcow2('vdc')]);
  host.run('mixed');
  host.write('mixed', 'vdb', 'write -P 0x61 1M 2M');
  add('mixed', '--exclude-disk', 'vdc');
  operator.backUp('mixed');
  host.write('mixed', 'vdb', 'write -P 0x62 2M 64k', 'write -P 0 1M 64k');
  const next = operator.backUp('mixed');
  expect(next.disks).toMatchObject([
    { backup_type: 'incremental', written_bytes: 0 },
    { backup_type: 'incremental', written_bytes: 128 * 1024 },
  ]);
  operator.expectRestored(next.backup_id, 0, host.rawCopy('mixed', 'vda'));
  operator.expectRestored(next.backup_id, 1, host.rawCopy('mixed', 'vdb', 'raw'));
});

it('reads a machine that is off, with its bitmaps, and goes on when it runs again', () => {
  machine('off', qcow2('vda'));
  operator.backUp('off');
  host.write('off', 'vda', 'write -P 0x71 9M 128k');
  host.virsh('destroy', 'off');
  const off = operator.backUp('off');
  expect(off.disks).toMatchObject([{ backup_type: 'incremental', written_bytes: 128 * 1024 }]);
  expectSame(off, 'off', 'vda');
  host.run('off');
  host.write('off', 'vda', 'write -P 0x72 10M 64k', 'write -z -u 9M 64k');
  const on = operator.backUp('off');
  expect(types(on)).toEqual(['incremental']);
  expectSame(on, 'off', 'vda');
  expect(litter()).toEqual([]);
});

it('knows the changes below an external snapshot of a machine that is off', () => {
  machine('snap', qcow2('vda'));
  operator.backUp('snap');
  host.write('snap', 'vda', 'write -P 0x73 9M 128k');
  host.virsh('snapshot-create-as', 'snap', 's1', '--disk-only', '--no-metadata');
  host.write('snap', 'vda', 'write -P 0x74 11M 64k');
  host.virsh('destroy', 'snap');
  const top = /file='([^']*s1)'/.exec(host.virsh('dumpxml', 'snap'))?.[1] ?? '';
  const off = operator.backUp('snap');
  expect(off.disks).toMatchObject([{ backup_type: 'incremental', written_bytes: 192 * 1024 }]);
  const copy = join(host.folder, 'snap.raw');
  sh('qemu-img', 'convert', '-O', 'raw', top, copy);
  operator.expectRestored(off.backup_id, 0, copy);
});

it('keeps the domain, its UEFI variables and the checkpoint with each restore point', () => {
  machine('kept', qcow2('vda'));
  const { backup_id } = operator.backUp('kept');
  const file = sh('find', join(appliance.home, 'backups'), '-name', `${backup_id}.json`).trim();
  const { configuration } = JSON.parse(sh('cat', file)) as { configuration: Record<string, string> };
  expect(configuration['domain_xml']).toContain('<name>kept</name>');
  expect(configuration['checkpoint_xml']).toContain(host.checkpoints('kept')[0]);
});

it('does not begin without room for what the guest overwrites', async () => {
  machine('full', qcow2('vda'));
  await appliance.stop();
  await appliance.start([`libvirt.scratch_folder=/proc`, 'libvirt.scratch_mib=16']);
  expectFailure(appliance.ctl('backup', 'start', '--vm', 'full', '--wait'), 'SCRATCH_SPACE', 21);
  expect(host.checkpoints('full')).toEqual([]);
  await appliance.stop();
  await appliance.start([`libvirt.scratch_folder=${host.disks}`, 'libvirt.scratch_mib=16']);
});
