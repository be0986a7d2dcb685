import { type ChildProcess, spawn } from 'node:child_process';
import { copyFileSync, existsSync, mkdtempSync, rmSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll } from 'vitest';
import { TestAppliance } from './appliance.ts';
import { sh } from './guest-disk.ts';
import { Operator, type ShownJob, until } from './operator.ts';
import { RandomDisk } from './random-disk.ts';

const MIB = 1024 * 1024;

/** A machine with two disks and three restore points, each with copies to compare with, and places to restore to. */
export function wholeDiskBench() {
  const work = mkdtempSync(join(tmpdir(), 'sd-whole-'));
  const file = (name: string) => join(work, name);
  const appliance = new TestAppliance();
  const operator = new Operator(appliance);
  /** Pieces of 1 MiB, so that a small disk can be interrupted in the middle. */
  const settings = ['restore.segment_mib=1', 'exports.backend=storage-daemon'];
  const points: { id: string; copies: string[] }[] = [];
  const loops: string[] = [];
  const servers: ChildProcess[] = [];

  /** A loop device over a file full of old data. */
  function loopOver(name: string, bytes: number): { device: string; backing: string } {
    const backing = file(name);
    sh('dd', 'if=/dev/urandom', `of=${backing}`, 'bs=1M', `count=${Math.ceil(bytes / MIB)}`, 'status=none');
    truncateSync(backing, bytes);
    const device = sh('losetup', '-f', '--show', backing).trim();
    loops.push(device);
    return { device, backing };
  }

  function detach(device: string): void {
    sh('losetup', '-d', device);
    loops.splice(loops.indexOf(device), 1);
  }

  /** nbdkit over a file, on a unix socket or a port of its own. */
  async function serve(backing: string, ...more: string[]): Promise<{ uri: string; server: ChildProcess }> {
    const socket = file(`nbd-${servers.length}.sock`);
    const server = spawn('nbdkit', ['-f', '-U', socket, ...more, 'file', backing], { stdio: 'ignore' });
    servers.push(server);
    await until('nbdkit listens', () => existsSync(socket));
    return { uri: `nbd+unix:///?socket=${socket}`, server };
  }

  const disk = (point: { id: string }, index: number, output: string, ...more: string[]): string[] => [
    ...['restore', 'disk', '--backup-id', point.id, '--disk', String(index), '--output', output],
    ...more,
  ];
  const sure = (output: string) => ['--yes', '--confirm-device', output];
  const resultOf = (job: ShownJob) => (job as unknown as { result: Record<string, number | null> }).result;
  const point = (index: number) => {
    const found = points.at(index);
    if (!found) throw new Error('no such restore point');
    return found;
  };

  beforeAll(async () => {
    const disks = [new RandomDisk(file('a.img'), 24, 11), new RandomDisk(file('b.img'), 9, 12)];
    await appliance.start(settings);
    appliance.json('vm', 'add', 'm', '--disk', file('a.img'), '--disk', file('b.img'));
    for (const type of ['full', 'incremental', 'incremental']) {
      for (const one of disks) one.write(12);
      const { backup_id } = operator.backUp('m', type);
      const copies = disks.map((_disk, index) => file(`copy-${points.length}-${index}`));
      for (const [index, copy] of copies.entries()) copyFileSync(disks[index]?.path ?? '', copy);
      points.push({ id: backup_id, copies });
    }
  });
  afterAll(async () => {
    for (const server of servers) server.kill('SIGKILL');
    await appliance.dispose();
    for (const device of [...loops]) detach(device);
    rmSync(work, { recursive: true, force: true });
  });

  return {
    ...{ file, work, appliance, operator, settings, points, point, disk, sure, resultOf },
    ...{ loops, loopOver, detach, servers, serve },
  };
}
