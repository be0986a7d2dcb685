import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { makeBootableDisk } from '../support/boot-guest.ts';
import { sh } from '../support/guest-disk.ts';
import { LibvirtHost } from '../support/libvirt-host.ts';
import { Operator, type ShownBackup, until } from '../support/operator.ts';

/** A guest agent that freezes and thaws; the second time it is asked to freeze it says nothing, as one that hangs. */
const AGENT = `
load virtio_pci virtio_console
port() { for p in /sys/class/virtio-ports/*; do [ "$(cat $p/name)" = org.qemu.guest_agent.0 ] && echo /dev/\${p##*/}; done; }
while [ -z "$(port)" ]; do sleep 0.1; done
exec 3<>"$(port)"
freezes=0
while read -r line <&3; do
  case "$line" in
    *guest-sync*) echo "{\\"return\\": $(echo "$line" | sed 's/.*"id"[^0-9]*\\([0-9]*\\).*/\\1/')}" >&3 ;;
    *fsfreeze-freeze*)
      freezes=$((freezes + 1))
      echo "SAW freeze $freezes" >/dev/ttyS0
      [ $freezes -eq 2 ] || echo '{"return": 1}' >&3 ;;
    *fsfreeze-thaw*) echo "SAW thaw after $freezes" >/dev/ttyS0; echo '{"return": 1}' >&3 ;;
    *fsfreeze-status*) echo '{"return": "thawed"}' >&3 ;;
    *) echo '{"return": {}}' >&3 ;;
  esac
done
`;

const host = new LibvirtHost();
const appliance = new TestAppliance();
const operator = new Operator(appliance);
const serial = join(host.disks, 'serial.log');
const talk = () => (existsSync(serial) ? readFileSync(serial, 'utf8') : '');
const consistencyOf = (backup: ShownBackup) =>
  appliance.json<{ consistency: string }>('backup', 'show', backup.backup_id).consistency;

beforeAll(async () => {
  await host.start();
  await appliance.start([`libvirt.scratch_folder=${host.disks}`, 'libvirt.scratch_mib=16']);
  const raw = join(host.folder, 'boot.raw');
  makeBootableDisk(raw, AGENT);
  host.asNobody('qemu-img', ['convert', '-O', 'qcow2', raw, host.diskPath('agent', 'vda')]);
  sh('rm', raw);
  const devices = `<serial type='file'><source path='${serial}'/></serial>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>`;
  host.define('agent', [{ target: 'vda', format: 'qcow2', sizeMib: 40 }], devices, '', 256);
  host.virsh('start', 'agent');
  appliance.json('vm', 'add', 'agent', '--libvirt', 'agent', '--uri', host.uri);
}, 120_000);
afterAll(async () => {
  await appliance.dispose();
  await host.dispose();
}, 60_000);

it('freezes the guest for the snapshot only, and thaws it also when freezing hangs', async () => {
  const ping = ['qemu-agent-command', 'agent', '{"execute": "guest-ping"}', '--timeout', '5'];
  let startedMs = Date.now();
  await until('the agent answers', () => {
    try {
      return host.virsh(...ping).includes('return');
    } catch {
      // a small guest on a busy machine may miss the question that came while it opened its port
      if (Date.now() - startedMs > 25_000) {
        host.virsh('reset', 'agent');
        startedMs = Date.now();
      }
      return false;
    }
  });
  const frozen = operator.backUp('agent');
  expect(consistencyOf(frozen)).toBe('filesystem');
  await until('it was thawed', () => talk().includes('SAW thaw after 1'));
  const started = Date.now();
  const hung = operator.backUp('agent');
  expect(consistencyOf(hung)).toBe('crash');
  expect(Date.now() - started).toBeLessThan(60_000);
  await until('it was thawed all the same', () => talk().includes('SAW thaw after 2'));
  const { jobs } = appliance.json<{ jobs: { backup_id: string; warnings: string[] }[] }>('job', 'list');
  const warnings = jobs.find(({ backup_id }) => backup_id === hung.backup_id)?.warnings ?? [];
  expect(warnings.join()).toContain('could not be frozen');
  host.virsh('suspend', 'agent');
  // a paused guest cannot answer, and need not
  expect(consistencyOf(operator.backUp('agent'))).toBe('crash');
  expect(talk()).not.toContain('SAW freeze 3');
}, 180_000);
