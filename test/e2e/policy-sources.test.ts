import { copyFileSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { freePort, TestAgent } from '../support/agent.ts';
import { TestAppliance } from '../support/appliance.ts';
import { LibvirtHost } from '../support/libvirt-host.ts';
import { expectFailure, Operator } from '../support/operator.ts';
import { RandomDisk } from '../support/random-disk.ts';

/** One policy for three machines of three kinds of source. */
const work = mkdtempSync(join(tmpdir(), 'sd-psources-'));
const given = join(work, 'given');
const host = new LibvirtHost();
const appliance = new TestAppliance();
const operator = new Operator(appliance);
const agent = new TestAgent(appliance, 'site1');
const disks: RandomDisk[] = [];

interface Task {
  vm_name: string;
  status: string;
  detail: string;
}
const newestRun = (): Task[] => {
  const { runs } = appliance.json<{ runs: { run_id: number; kind: string }[] }>('policy', 'runs');
  const id = runs.find(({ kind }) => kind === 'backup')?.run_id ?? 0;
  return appliance.json<{ tasks: Task[] }>('policy', 'runs', '--run', String(id)).tasks;
};

beforeAll(async () => {
  mkdirSync(given);
  await host.start();
  const port = await freePort();
  await appliance.start([
    ...['exports.backend=storage-daemon', `agents.listen=127.0.0.1:${port}`],
    ...[`libvirt.scratch_folder=${host.disks}`, 'libvirt.scratch_mib=16'],
  ]);
  agent.enroll(`127.0.0.1:${port}`, [given]);
  await agent.start();
  disks.push(new RandomDisk(join(given, 'far.img'), 12, 3), new RandomDisk(join(work, 'near.img'), 12, 5));
  for (const disk of disks) disk.write(4);
  host.define('virt', [{ target: 'vda', format: 'qcow2', sizeMib: 16 }]);
  host.run('virt');
  host.write('virt', 'vda', 'write -P 0x11 0 2M', 'write -P 0x22 5M 1M');
  appliance.json('vm', 'add', 'far', '--agent', 'site1', '--disk', disks[0]?.path ?? '');
  appliance.json('vm', 'add', 'near', '--disk', disks[1]?.path ?? '');
  appliance.json('vm', 'add', 'virt', '--libvirt', 'virt', '--uri', host.uri, '--no-freeze');
  appliance.json(
    'policy',
    'add',
    'all',
    '--pattern',
    '*',
    '--schedule',
    'daily at 22:00',
    '--keep-last',
    '2',
  );
}, 90_000);
afterAll(async () => {
  await agent.dispose();
  await appliance.dispose();
  await host.dispose();
  rmSync(work, { recursive: true, force: true });
}, 60_000);

/** What each machine has just now, as a raw file that nobody writes to. */
function originals(): Map<string, string> {
  const copies = new Map<string, string>();
  for (const [index, name] of ['far', 'near'].entries()) {
    const copy = join(work, `${name}.now`);
    copyFileSync(disks[index]?.path ?? '', copy);
    copies.set(name, copy);
  }
  return copies.set('virt', host.rawCopy('virt', 'vda'));
}

it('backs up a machine at an agent, one of a libvirt and one of images, first in full and then incrementally', async () => {
  for (const type of ['full', 'incremental', 'incremental']) {
    const now = originals();
    expect(appliance.ctl('policy', 'run', 'all', '--wait')).toMatchObject({ code: 0 });
    expect(newestRun().map(({ vm_name, status }) => `${vm_name} ${status}`)).toEqual([
      ...['far completed', 'near completed', 'virt completed'],
    ]);
    for (const [name, original] of now) {
      const [newest] = operator.backups('--vm', name);
      expect([name, newest?.disks[0]?.backup_type]).toEqual([name, type]);
      operator.expectRestored(newest?.backup_id ?? '', 0, original);
    }
    await operator.idle();
    for (const disk of disks) disk.write(2);
    host.write('virt', 'vda', 'write -P 0x44 1M 64k', 'write -z -u 0 1M');
  }
  // its retention ran for each kind of them
  await operator.idle();
  for (const name of ['far', 'near', 'virt']) expect(operator.backups('--vm', name)).toHaveLength(2);
});

it('does the others when one source is away, tells which, and takes it up again', async () => {
  await agent.kill();
  const now = originals();
  const partly = appliance.ctl('policy', 'run', 'all', '--wait');
  expectFailure(partly, 'POLICY_RUN_PARTLY', 3);
  expect(partly.stderr).toContain('far: AGENT_OFFLINE');
  expect(newestRun().map(({ vm_name, status }) => `${vm_name} ${status}`)).toEqual([
    ...['far failed', 'near completed', 'virt completed'],
  ]);
  const status = appliance.ctl('status');
  expectFailure(status, 'ATTENTION_NEEDED', 4);
  expect(status.stdout).toMatch(/far +failing +alarm/);
  expect(status.stdout).not.toMatch(/(near|virt) +failing/);
  await agent.start();
  await operator.idle();
  expect(appliance.ctl('policy', 'run', 'all', '--wait').code).toBe(0);
  for (const [name, original] of now) {
    const [newest] = operator.backups('--vm', name);
    expect([name, newest?.disks[0]?.backup_type]).toEqual([name, 'incremental']);
    operator.expectRestored(newest?.backup_id ?? '', 0, original);
  }
  expect(appliance.ctl('status').stdout).not.toContain('failing');
});
