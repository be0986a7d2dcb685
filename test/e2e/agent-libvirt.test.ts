import { afterAll, beforeAll, expect, it } from 'vitest';
import { freePort, TestAgent } from '../support/agent.ts';
import { TestAppliance } from '../support/appliance.ts';
import { LibvirtHost } from '../support/libvirt-host.ts';
import { Operator, until } from '../support/operator.ts';

/** A running machine of a libvirt that only the agent can reach. */
const host = new LibvirtHost();
const appliance = new TestAppliance();
const operator = new Operator(appliance);
const agent = new TestAgent(appliance, 'hyper');

beforeAll(async () => {
  await host.start();
  const port = await freePort();
  await appliance.start(['exports.backend=storage-daemon', `agents.listen=127.0.0.1:${port}`]);
  agent.enroll(`127.0.0.1:${port}`, []);
  await agent.start();
  host.define('one', [
    { target: 'vda', format: 'qcow2', sizeMib: 16 },
    { target: 'vdb', format: 'qcow2', sizeMib: 8 },
  ]);
  host.run('one');
  for (const target of ['vda', 'vdb']) host.write('one', target, 'write -P 0x11 0 2M', 'write -P 0x22 5M 1M');
}, 60_000);
afterAll(async () => {
  await agent.dispose();
  await appliance.dispose();
  await host.dispose();
}, 60_000);

const expectSame = (backupId: string) => {
  for (const [index, target] of ['vda', 'vdb'].entries())
    operator.expectRestored(backupId, index, host.rawCopy('one', target));
};

it('is found, registered and backed up by its bitmaps', async () => {
  const { machines } = appliance.json<{ machines: { name: string }[] }>(
    ...['agent', 'discover', 'hyper', '--kind', 'libvirt', '--uri', host.uri],
  );
  expect(machines.map(({ name }) => name)).toEqual(['one']);
  appliance.json(
    ...['vm', 'add', 'one', '--agent', 'hyper', '--libvirt', 'one', '--uri', host.uri, '--no-freeze'],
  );
  const full = operator.backUp('one');
  expect(full.disks.map(({ backup_type }) => backup_type)).toEqual(['full', 'full']);
  expectSame(full.backup_id);
  host.write('one', 'vda', 'write -P 0x44 1M 64k', 'write -z -u 0 1M', 'discard 5M 64k');
  const next = operator.backUp('one');
  expect(next.disks.map(({ backup_type }) => backup_type)).toEqual(['incremental', 'incremental']);
  // exactly what was touched
  expect(next.disks.map(({ written_bytes }) => written_bytes)).toEqual([1152 * 1024, 0]);
  expectSame(next.backup_id);
  expect(appliance.ctl('verify', 'vm', 'one', '--wait').code).toBe(0);
});

it('fails cleanly when its agent is killed, and nothing stays in the libvirt', async () => {
  host.write('one', 'vda', 'write -P 0x55 0 12M');
  appliance.json('agent', 'set', 'hyper', '--rate', '2MiB');
  const { job_id } = appliance.json<{ job_id: string }>('backup', 'start', '--vm', 'one');
  await until('bytes flow', () => operator.job(job_id).progress.processed_bytes > 0);
  await agent.kill();
  await agent.start();
  await until('it ended', () => operator.job(job_id).status === 'failed');
  expect(operator.job(job_id).error?.code).toBe('SNAPSHOT_LOST');
  expect(host.virsh('domjobinfo', 'one')).toMatch(/None/);
  appliance.json('agent', 'set', 'hyper', '--rate', 'none');
  const again = operator.backUp('one');
  expect(again.disks.map(({ backup_type }) => backup_type)).toEqual(['incremental', 'incremental']);
  expectSame(again.backup_id);
});
