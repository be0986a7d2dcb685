import { chmodSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { sh } from '../support/guest-disk.ts';
import { LibvirtHost } from '../support/libvirt-host.ts';
import { LoopFolder } from '../support/loop-folder.ts';
import { Operator, until } from '../support/operator.ts';

const host = new LibvirtHost();
const appliance = new TestAppliance();
const operator = new Operator(appliance);
const settings = [`libvirt.scratch_folder=${host.disks}`, 'libvirt.scratch_mib=16'];
const litter = () => readdirSync(host.disks).filter((name) => name.startsWith('sendense-'));

beforeAll(async () => {
  await host.start();
  await appliance.start(settings);
}, 60_000);
afterAll(async () => {
  await appliance.dispose();
  await host.dispose();
}, 60_000);

it('ends what a killed daemon left at libvirt, and loses no change', async () => {
  host.define('kill', [{ target: 'vda', format: 'qcow2', sizeMib: 128 }]);
  host.run('kill');
  host.write('kill', 'vda', 'write -P 0x11 0 96M');
  appliance.json('vm', 'add', 'kill', '--libvirt', 'kill', '--uri', host.uri, '--no-freeze');
  operator.backUp('kill');
  host.write('kill', 'vda', 'write -P 0x12 1M 1M', 'write -z 9M 1M');
  const before = host.checkpoints('kill');
  for (const type of ['full', 'incremental']) {
    const child = appliance.spawnCtl('backup', 'start', '--vm', 'kill', '--type', type);
    await until('libvirt has begun', () => litter().some((name) => name.endsWith('.sock')));
    await appliance.kill();
    child.kill();
    // the backup goes on at libvirt, whoever asked for it
    expect(host.virsh('domjobinfo', 'kill')).toContain('Backup');
    await appliance.start(settings);
    expect(host.virsh('domjobinfo', 'kill')).toContain('None');
    expect(litter()).toEqual([]);
    expect(host.checkpoints('kill')).toEqual(before);
  }
  const next = operator.backUp('kill');
  expect(next.disks).toMatchObject([{ backup_type: 'incremental', written_bytes: 2 << 20 }]);
  operator.expectRestored(next.backup_id, 0, host.rawCopy('kill', 'vda'));
  expect(appliance.leftovers().filter((line) => !/^(qsd|nbd)/.test(line) && !line.includes('/run/'))).toEqual(
    [],
  );
});

it('ends it before the next backup when libvirt could not be reached at the start', async () => {
  host.define('late', [{ target: 'vda', format: 'qcow2', sizeMib: 128 }]);
  host.run('late');
  host.write('late', 'vda', 'write -P 0x21 0 96M');
  appliance.json('vm', 'add', 'late', '--libvirt', 'late', '--uri', host.uri, '--no-freeze');
  const child = appliance.spawnCtl('backup', 'start', '--vm', 'late', '--type', 'full');
  await until('libvirt has begun', () => litter().some((name) => name.endsWith('.sock')));
  await appliance.kill();
  child.kill();
  await host.stopDaemon();
  await appliance.start(settings);
  expect(operator.events('source.left_behind')).toHaveLength(1);
  await host.start();
  expect(host.virsh('domjobinfo', 'late')).toContain('Backup');
  const next = operator.backUp('late');
  operator.expectRestored(next.backup_id, 0, host.rawCopy('late', 'vda'));
  expect(litter()).toEqual([]);
});

it('gives a backup up before the writes of the guest fail for want of scratch space', async () => {
  const small = new LoopFolder(join(host.folder, 'small'), 32);
  small.mount();
  try {
    chmodSync(small.path, 0o777);
    await appliance.stop();
    await appliance.start([`libvirt.scratch_folder=${small.path}`, 'libvirt.scratch_mib=16']);
    host.define('tight', [{ target: 'vda', format: 'qcow2', sizeMib: 128 }]);
    host.run('tight');
    host.write('tight', 'vda', 'write -P 0x31 0 96M');
    appliance.json('vm', 'add', 'tight', '--libvirt', 'tight', '--uri', host.uri, '--no-freeze');
    const child = appliance.spawnCtl('backup', 'start', '--vm', 'tight', '--type', 'full', '--wait');
    const ended = new Promise((resolve) => child.once('exit', resolve));
    let mover: number | undefined;
    await until('it reads', () => {
      [mover] = appliance.processes('sendense-mover');
      return mover !== undefined;
    });
    // what a busy guest does while a big disk is read
    process.kill(mover ?? 0, 'SIGSTOP');
    sh('dd', 'if=/dev/zero', `of=${join(small.path, 'other')}`, 'bs=1M', 'count=22', 'status=none');
    await until('libvirt has let go', () => host.virsh('domjobinfo', 'tight').includes('None'));
    process.kill(mover ?? 0, 'SIGCONT');
    expect(await ended).not.toBe(0);
    const { jobs } = appliance.json<{ jobs: { vm_name: string; warnings: string[] }[] }>('job', 'list');
    expect(jobs.find(({ vm_name }) => vm_name === 'tight')?.warnings.join()).toContain('given up before');
    expect(host.checkpoints('tight')).toEqual([]);
  } finally {
    await appliance.stop();
    small.umount();
  }
  await appliance.start(settings);
});
