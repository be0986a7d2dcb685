import { expect, it } from 'vitest';
import { restoredDomain } from './restored-domain.ts';

const saved = `<domain type='kvm' id='7'>
  <name>web</name><uuid>11111111-2222-4333-8444-555555555555</uuid><genid>aaaa</genid>
  <os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type><loader type='pflash'>/usr/share/OVMF/OVMF_CODE.fd</loader>
    <nvram template='/usr/share/OVMF/OVMF_VARS.fd'>/var/lib/libvirt/qemu/nvram/web_VARS.fd</nvram></os>
  <devices>
    <emulator>/opt/qemu/bin/qemu</emulator>
    <disk type='block' device='disk'><driver name='qemu' type='raw' cache='none'/><source dev='/dev/vg/web'/><backingStore/><target dev='vda' bus='virtio'/></disk>
    <disk type='file' device='disk'><source file='/srv/scratch.img'/><target dev='vdb' bus='virtio'/></disk>
    <disk type='file' device='cdrom'><source file='/srv/install.iso'/><target dev='sda' bus='sata'/><readonly/></disk>
    <interface type='bridge'><mac address='52:54:00:11:22:33'/><source bridge='br0'/><target dev='vnet7'/></interface>
    <hostdev mode='subsystem' type='pci'/><tpm model='tpm-crb'/>
    <graphics type='vnc' port='5901' autoport='no'/>
  </devices></domain>`;
const disks = [{ target: 'vda', path: '/images/web2-vda.qcow2' }];

it('is a machine of its own: nothing of it meets the old one', () => {
  const { xml, uuid, notes } = restoredDomain(saved, {
    name: 'web2',
    network: 'none',
    keepIdentity: false,
    disks,
    nvramPath: '/images/web2_VARS.fd',
  });
  expect(xml).toContain('<name>web2</name>');
  expect(xml).toContain(`<uuid>${uuid}</uuid>`);
  expect(xml).toMatch(/<disk type="file" device="disk"><driver name="qemu" type="qcow2" cache="none"\/>/);
  expect(xml).toContain('<source file="/images/web2-vda.qcow2"/>');
  expect(xml).toContain('>/images/web2_VARS.fd</nvram>');
  expect(xml).toContain('<tpm');
  for (const old of [
    '11111111',
    '/dev/vg',
    'scratch.img',
    'install.iso',
    '<interface',
    'hostdev',
    '5901',
    'aaaa',
    '/opt/qemu',
  ])
    expect(xml).not.toContain(old);
  expect(notes).toHaveLength(4);
});

it('keeps who it is when that is wanted, and lets libvirt make new UEFI variables where none were kept', () => {
  const { xml, uuid } = restoredDomain(saved, {
    ...{ name: 'web', network: 'same', keepIdentity: true, disks, nvramPath: null },
  });
  expect(uuid).toBe('11111111-2222-4333-8444-555555555555');
  expect(xml).toContain('52:54:00:11:22:33');
  expect(xml).not.toContain('vnet7');
  expect(xml).not.toContain('web_VARS.fd');
  expect(xml).toContain('template="/usr/share/OVMF/OVMF_VARS.fd"');
});

it('has new addresses on the same networks', () => {
  const { xml } = restoredDomain(saved, {
    ...{ name: 'web2', network: 'same', keepIdentity: false, disks, nvramPath: null },
  });
  expect(xml).toContain('bridge="br0"');
  expect(xml).not.toContain('52:54:00:11:22:33');
});
