import { closeSync, mkdirSync, mkdtempSync, openSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { sh } from '../support/guest-disk.ts';
import { Operator, until } from '../support/operator.ts';
import { contentOf } from '../support/repository-content.ts';
import { demandVmImage } from '../support/vm-image.ts';

interface Mount {
  readonly mount_id: string;
  readonly mount_mode: string;
}

const TEXT = 'what the guest had';
const modes = ['loop', 'userspace', 'vm'] as const;

describe('a process that dies while restore points are mounted', () => {
  const work = mkdtempSync(join(tmpdir(), 'sd-dying-'));
  const appliance = new TestAppliance();
  const operator = new Operator(appliance);
  let before: Record<string, string> = {};

  const mount = (mode: string) =>
    appliance.json<Mount>('backup', 'mount', '--backup-id', 'latest', '--mode', mode);
  const read = (mountId: string) => {
    const { status, body } = appliance.rest('GET', `/api/v1/restore/${mountId}/download?path=/file`);
    return status === 200 ? body : status;
  };
  /** Processes of one mount; the storage daemon of the exports names no mount. */
  const of = (program: string, mountId: string) => {
    const pids = new Set(appliance.processes(`mounts/${mountId}`));
    const ofProgram = [...appliance.processes(program)].filter((pid) => pids.has(pid));
    expect(ofProgram.length, program).toBeGreaterThan(0);
    return ofProgram;
  };
  const killAll = (pids: readonly number[]) => {
    for (const pid of pids) process.kill(pid, 'SIGKILL');
  };
  const left = () => [
    ...appliance.leftovers().filter((line) => /run\/mounts|\/mnt\//.test(line)),
    ...readdirSync(join(appliance.home, 'run', 'mounts')),
    ...readdirSync(join(appliance.home, 'mnt')),
    ...['fuse2fs', 'sshfs', 'qemu-system'].flatMap((name) =>
      appliance.processes(name).map((pid) => `${name} ${pid}`),
    ),
  ];

  beforeAll(async () => {
    demandVmImage();
    mkdirSync(join(work, 'tree'));
    writeFileSync(join(work, 'tree', 'file'), TEXT);
    sh('mkfs.ext4', '-q', '-d', join(work, 'tree'), join(work, 'disk'), '24M');
    await appliance.start(['exports.backend=storage-daemon']);
    appliance.json('vm', 'add', 'm', '--disk', join(work, 'disk'));
    operator.backUp('m', 'full');
    before = contentOf(join(appliance.home, 'backups'));
  });
  afterAll(async () => {
    await appliance.dispose();
    rmSync(work, { recursive: true, force: true });
  });

  it('mountd: what is mounted stays readable, and the next one does its work', async () => {
    const old = mount('loop');
    killAll(appliance.processes('sendense-mountd'));
    expect(read(old.mount_id)).toBe(TEXT);
    await until('mountd is back', () => appliance.processes('sendense-mountd').length === 1);
    await until(
      'it answers',
      () => appliance.ctl('backup', 'mount', '--backup-id', 'latest', '--mode', 'loop').code === 0,
    );
    for (const { mount_id } of appliance.json<{ mounts: Mount[] }>('mount', 'list').mounts)
      expect(appliance.ctl('mount', 'remove', mount_id)).toMatchObject({ code: 0 });
    expect(left()).toEqual([]);
  });

  it.each([
    ['loop', 'qemu-storage-daemon'],
    ['userspace', 'qemu-storage-daemon'],
    ['userspace', 'fuse2fs'],
    ['vm', 'qemu-system'],
  ])('mode %s, %s: reading fails soon, the mount can be removed, nothing is left', async (mode, program) => {
    const { mount_id, mount_mode } = mount(mode);
    expect(mount_mode).toBe(mode);
    expect(read(mount_id)).toBe(TEXT);
    killAll(of(program, mount_id));
    const started = Date.now();
    // cached bytes may still be told for a moment
    await until('reading fails', () => read(mount_id) !== TEXT || Date.now() - started > 5_000);
    expect(Date.now() - started).toBeLessThan(15_000);
    expect(appliance.ctl('mount', 'list').code).toBe(0);
    const removed = appliance.ctl('mount', 'remove', mount_id);
    // it may have been given up already
    expect(removed.code === 0 || removed.stderr.includes('MOUNT_UNKNOWN'), removed.stderr).toBe(true);
    await until('nothing is left', () => left().length === 0);
    const again = mount(mode);
    expect(read(again.mount_id)).toBe(TEXT);
    appliance.json('mount', 'remove', again.mount_id);
  });

  it('everything at once, with a file open: nothing is left after the next start', async () => {
    const mounts = modes.map((mode) => mount(mode));
    const held = openSync(join(appliance.home, 'mnt', mounts[0]?.mount_id ?? '', 'disk0', 'file'), 'r');
    try {
      const all = ['mountd', 'fuse2fs', 'sshfs', 'qemu'].flatMap((name) => appliance.processes(name));
      await appliance.kill();
      killAll(all);
      expect(left().length).toBeGreaterThan(3);
    } finally {
      closeSync(held);
    }
    await appliance.start(['exports.backend=storage-daemon']);
    expect(left()).toEqual([]);
    expect(appliance.json<{ mounts: Mount[] }>('mount', 'list').mounts).toEqual([]);
    const again = mount('loop');
    expect(read(again.mount_id)).toBe(TEXT);
    appliance.json('mount', 'remove', again.mount_id);
  });

  it('and the daemon alone: its helpers are ended at the next start', async () => {
    for (const mode of modes) mount(mode);
    await appliance.kill();
    await appliance.start(['exports.backend=storage-daemon']);
    expect(left()).toEqual([]);
    expect(contentOf(join(appliance.home, 'backups'))).toEqual(before);
  });
});
