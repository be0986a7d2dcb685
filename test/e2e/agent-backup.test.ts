import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { freePort, TestAgent } from '../support/agent.ts';
import { TestAppliance } from '../support/appliance.ts';
import { sh } from '../support/guest-disk.ts';
import { expectFailure, Operator } from '../support/operator.ts';
import { RandomDisk } from '../support/random-disk.ts';

/** The whole way of a remote machine, for each way of its bytes. */
describe.each(['storage-daemon', 'nbd-server'])('a machine at an agent, through %s', (backend) => {
  const work = mkdtempSync(join(tmpdir(), 'sd-agent-'));
  const given = join(work, 'given');
  const appliance = new TestAppliance();
  const operator = new Operator(appliance);
  const agent = new TestAgent(appliance, 'site1');

  beforeAll(async () => {
    mkdirSync(given);
    const [port, sshPort] = [await freePort(), await freePort()];
    await appliance.start([
      `exports.backend=${backend}`,
      `agents.listen=127.0.0.1:${port}`,
      `agents.ssh_listen=127.0.0.1:${sshPort}`,
    ]);
    agent.enroll(`127.0.0.1:${port}`, [given]);
    await agent.start();
  });
  afterAll(async () => {
    await agent.dispose();
    await appliance.dispose();
    expect(appliance.leftovers()).toEqual([]);
    rmSync(work, { recursive: true, force: true });
  });

  it.each(['tls', 'ssh', 'local'])('is backed up over %s, in full and incrementally, bit for bit', (way) => {
    appliance.json('agent', 'set', 'site1', '--data-way', way);
    const disk = new RandomDisk(join(given, `${way}.img`), 12, way.length);
    appliance.json('vm', 'add', way, '--agent', 'site1', '--disk', disk.path);
    for (const type of ['full', 'incremental', 'incremental']) {
      const backup = operator.backUp(way, type);
      expect(backup.disks[0]?.backup_type).toBe(type);
      copyFileSync(disk.path, `${disk.path}.${backup.backup_id}`);
      disk.write(3);
    }
    for (const { backup_id } of operator.backups('--vm', way))
      operator.expectRestored(backup_id, 0, `${disk.path}.${backup_id}`);
  });

  it('gives qcow2 images with a backing file too, and reads what its guest sees', () => {
    const base = new RandomDisk(join(given, 'base.img'), 8, 7);
    const image = join(given, 'above.qcow2');
    sh('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', base.path, '-F', 'raw', image);
    sh('qemu-io', '-f', 'qcow2', '-c', 'write -P 0x5a 3M 70k', image);
    appliance.json('agent', 'set', 'site1', '--data-way', 'tls');
    appliance.json('vm', 'add', 'above', '--agent', 'site1', '--disk', image, '--allow-backing', given);
    const { backup_id } = operator.backUp('above', 'full');
    sh('qemu-img', 'convert', '-f', 'qcow2', '-O', 'raw', image, join(work, 'seen.img'));
    operator.expectRestored(backup_id, 0, join(work, 'seen.img'));
  });

  it('gives only what its own operator allowed', () => {
    const outside = new RandomDisk(join(work, 'outside.img'), 4, 3);
    sh('ln', '-s', outside.path, join(given, 'link.img'));
    for (const path of [
      outside.path,
      join(given, 'link.img'),
      join(given, '..', 'outside.img'),
      '/etc/shadow',
    ])
      expectFailure(
        appliance.ctl('vm', 'add', 'thief', '--agent', 'site1', '--disk', path),
        'PATH_NOT_GIVEN',
        12,
      );
    sh(
      'qemu-img',
      'create',
      '-q',
      '-f',
      'qcow2',
      '-b',
      outside.path,
      '-F',
      'raw',
      join(given, 'crafted.qcow2'),
    );
    expect(
      appliance.ctl('vm', 'add', 'thief', '--agent', 'site1', '--disk', join(given, 'crafted.qcow2')).stderr,
    ).toContain('(SOURCE_HEADER_REFUSED)');
  });

  it('tells what could be backed up', () => {
    const { machines } = appliance.json<{ machines: { name: string; disks: { key: string }[] }[] }>(
      ...['agent', 'discover', 'site1'],
    );
    const found = machines.find(({ name }) => name === 'tls');
    expect(found?.disks[0]?.key).toBe(join(given, 'tls.img'));
  });

  it('keeps its keys to itself', () => {
    for (const name of ['agent.key', 'ssh.key', 'agent.json'])
      expect(statSync(join(agent.home, name)).mode & 0o077, name).toBe(0);
    for (const name of ['authority.key', 'appliance.key', 'ssh-host.key'])
      expect(statSync(join(appliance.home, 'state', 'agents', name)).mode & 0o077, name).toBe(0);
    const secret = readFileSync(join(agent.home, 'agent.key'), 'utf8').split('\n')[1] ?? '';
    for (const text of [agent.log(), appliance.log()]) expect(text).not.toContain(secret);
  });

  it('is told as away when it is away, and nothing stays of the attempt', async () => {
    await agent.stop();
    const failed = appliance.ctl('backup', 'start', '--vm', 'tls', '--wait');
    expectFailure(failed, 'AGENT_OFFLINE', 21);
    expectFailure(
      appliance.ctl('vm', 'add', 'late', '--agent', 'site1', '--disk', join(given, 'tls.img')),
      'AGENT_OFFLINE',
      21,
    );
    expect(operator.backups('--vm', 'tls').filter(({ status }) => status === 'completed')).toHaveLength(3);
    await agent.start();
    expect(operator.backUp('tls').disks[0]?.backup_type).toBe('incremental');
    expect(appliance.ctl('verify', 'vm', 'tls', '--wait').code).toBe(0);
  });
});
