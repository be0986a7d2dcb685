import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { sh } from '../support/guest-disk.ts';
import { LibvirtHost } from '../support/libvirt-host.ts';
import { Operator } from '../support/operator.ts';

const host = new LibvirtHost();
const appliance = new TestAppliance();
const operator = new Operator(appliance);

beforeAll(async () => {
  await host.start();
  await appliance.start([`libvirt.scratch_folder=${host.disks}`, 'libvirt.scratch_mib=16']);
});
afterAll(async () => {
  await appliance.dispose();
  await host.dispose();
});

/** A raw copy of what the guest has on a disk just now, taken by QEMU itself. */
function copyOf(name: string, target: string): string {
  const path = join(host.folder, `${name}-${target}.raw`);
  // what QEMU still holds in its caches would be missing
  host.write(name, target, 'flush');
  rmSync(path, { force: true });
  sh('qemu-img', 'convert', '-U', '-O', 'raw', '-f', 'qcow2', host.diskPath(name, target), path);
  return path;
}

it('backs a running machine up in full and incrementally', () => {
  host.define('one', [
    { target: 'vda', format: 'qcow2', sizeMib: 64 },
    { target: 'vdb', format: 'qcow2', sizeMib: 32 },
  ]);
  host.run('one');
  host.write('one', 'vda', 'write -P 0x11 0 8M', 'write -P 0x22 20M 1M');
  host.write('one', 'vdb', 'write -P 0x33 5M 1M');
  appliance.json('vm', 'add', 'one', '--libvirt', 'one', '--uri', host.uri, '--no-freeze');
  const full = operator.backUp('one');
  operator.expectRestored(full.backup_id, 0, copyOf('one', 'vda'));
  operator.expectRestored(full.backup_id, 1, copyOf('one', 'vdb'));
  host.write(
    'one',
    'vda',
    'write -P 0x44 1M 64k',
    'write -z -u 4M 2M',
    'discard 20M 64k',
    'write -P 0 7M 64k',
  );
  const next = operator.backUp('one');
  operator.expectRestored(next.backup_id, 0, copyOf('one', 'vda'));
  operator.expectRestored(next.backup_id, 1, copyOf('one', 'vdb'));
  expect(next.disks.map(({ backup_type }) => backup_type)).toEqual(['incremental', 'incremental']);
  appliance.json('verify', 'backup', next.backup_id, '--wait');
});
