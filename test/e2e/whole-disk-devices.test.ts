import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { bytesOf, sh } from '../support/guest-disk.ts';
import { expectFailure, type ShownJob, until } from '../support/operator.ts';
import { wholeDiskBench } from '../support/whole-disk-bench.ts';

const MIB = 1024 * 1024;
const { work, file, appliance, settings, point, loopOver, detach, disk, sure, loops, resultOf } =
  wholeDiskBench();

describe('block devices', () => {
  it('are overwritten only when they are named twice, large enough and not in use', () => {
    const size = statSync(point(-1).copies[0] ?? '').size;
    const { device, backing } = loopOver('device', size + MIB);
    const before = readFileSync(backing).subarray(size);
    for (const more of [
      [],
      ['--yes'],
      ['--confirm-device', device],
      ['--yes', '--confirm-device', '/dev/sda'],
    ]) {
      const refused = appliance.ctl(...disk(point(-1), 0, device, ...more));
      expectFailure(refused, 'OUTPUT_UNCONFIRMED', 13);
      expect(refused.stderr).toContain(backing);
    }
    appliance.json(...disk(point(-1), 0, device, ...sure(device)));
    sh('cmp', '-n', String(size), device, point(-1).copies[0] ?? '');
    // what lies behind the end of the disk is not touched
    expect(Buffer.compare(readFileSync(device).subarray(size), before)).toBe(0);
    detach(device);

    const { device: small } = loopOver('small', size - 512);
    const tooSmall = appliance.ctl(...disk(point(-1), 0, small, ...sure(small)));
    expectFailure(tooSmall, 'OUTPUT_TOO_SMALL', 13);
    expect(tooSmall.stderr).toMatch(new RegExp(`${size - 512}.*${size}`));
    detach(small);

    const { device: mounted } = loopOver('mounted', 64 * MIB);
    sh('mkfs.ext4', '-q', '-F', '-L', 'precious', mounted);
    expect(appliance.ctl(...disk(point(-1), 0, mounted)).stderr).toContain('ext4 "precious"');
    mkdirSync(file('mnt'));
    sh('mount', mounted, file('mnt'));
    try {
      expectFailure(appliance.ctl(...disk(point(-1), 0, mounted, ...sure(mounted))), 'OUTPUT_IN_USE', 11);
    } finally {
      sh('umount', file('mnt'));
    }
    const upper = sh('losetup', '-f', '--show', mounted).trim();
    loops.push(upper);
    expectFailure(appliance.ctl(...disk(point(-1), 0, mounted, ...sure(mounted))), 'OUTPUT_IN_USE', 11);
    detach(upper);
    detach(mounted);

    mkdirSync(join(appliance.home, 'inside'));
    const inside = join(appliance.home, 'inside', 'file');
    sh('truncate', '-s', '64M', inside);
    const own = sh('losetup', '-f', '--show', inside).trim();
    loops.push(own);
    expectFailure(appliance.ctl(...disk(point(-1), 0, own, ...sure(own))), 'OUTPUT_INVALID', 2);
    detach(own);
  });

  it('are refused while they are backed up, under whatever name', async () => {
    const { device, backing } = loopOver('source', 4 * MIB);
    const ready = file('hook-ran');
    const add = ['vm', 'add', 'device', '--disk', device, '--before', `touch '${ready}'; sleep 4`];
    appliance.json(...add);
    const backup = appliance.spawnCtl('backup', 'start', '--vm', 'device', '--wait');
    await until('the backup runs', () => existsSync(ready));
    symlinkSync(device, file('by-name'));
    for (const target of [device, file('by-name')]) {
      const refused = appliance.ctl(...disk(point(-1), 1, target, ...sure(target)));
      expectFailure(refused, 'DISK_BUSY', 11);
    }
    await until('the backup has ended', () => backup.exitCode !== null);
    detach(device);
    rmSync(backing);
  });

  it('go on after the daemon was killed, comparing what was written before', async () => {
    const size = statSync(point(-1).copies[0] ?? '').size;
    const { device } = loopOver('resumed', size);
    const command = disk(point(-1), 0, device, ...sure(device));
    const journals = join(appliance.home, 'state', 'restores');
    appliance.spawnCtl(...command);
    const done = () => {
      const [name] = existsSync(journals)
        ? readdirSync(journals).filter((entry) => entry.endsWith('.json'))
        : [];
      if (name === undefined) return 0;
      return (JSON.parse(readFileSync(join(journals, name), 'utf8')) as { done_bytes: number }).done_bytes;
    };
    await until('some pieces are written', () => done() >= 6 * MIB);
    await appliance.kill();
    // something in the done part is lost: it must not stay so
    const handle = openSync(device, 'r+');
    writeSync(handle, bytesOf('noise', 4096), 0, 4096, 2 * MIB);
    closeSync(handle);
    await appliance.start(settings);
    const job = appliance.json<ShownJob>(...command, '--resume');
    expect(resultOf(job)['resumed_at_bytes']).toBeGreaterThanOrEqual(6 * MIB);
    expect(resultOf(job)['changed_bytes']).toBe(64 * 1024);
    sh('cmp', device, point(-1).copies[0] ?? '');
    expect(readdirSync(journals)).toEqual([]);
    detach(device);
  });
});

describe('only what differs', () => {
  it('is written, to a file and to a device', () => {
    const [from, to] = [point(-1).copies[0] ?? '', point(0).copies[0] ?? ''];
    copyFileSync(from, file('target.raw'));
    const bytes = [readFileSync(from), readFileSync(to)];
    let differing = 0;
    for (let at = 0; at < (bytes[1]?.length ?? 0); at += 65_536)
      if (
        bytes[0]
          ?.subarray(at, at + 65_536)
          .compare(bytes[1]?.subarray(at, at + 65_536) ?? Buffer.alloc(0)) !== 0
      )
        differing += Math.min(65_536, (bytes[1]?.length ?? 0) - at);
    const job = appliance.json<ShownJob>(...disk(point(0), 0, file('target.raw'), '--differential'));
    expect(resultOf(job)).toMatchObject({ compared_bytes: bytes[1]?.length, changed_bytes: differing });
    sh('cmp', '-n', String(bytes[1]?.length), file('target.raw'), to);
    const again = appliance.json<ShownJob>(...disk(point(0), 0, file('target.raw'), '--differential'));
    expect(resultOf(again)).toMatchObject({ changed_bytes: 0 });

    const { device } = loopOver('differential', bytes[1]?.length ?? 0);
    appliance.json(...disk(point(0), 0, device, '--differential', ...sure(device)));
    sh('cmp', device, to);
    detach(device);
    expect(readdirSync(work).filter((name) => name.includes('incomplete'))).toEqual([]);
  });

  it('is compared with the backup itself where its digests are damaged', () => {
    const rows = sh('find', join(appliance.home, 'backups'), '-name', '*.zst').trim().split('\n');
    for (const path of rows) copyFileSync(path, `${path}.sound`);
    try {
      for (const path of rows) truncateSync(path, Math.floor(statSync(path).size / 2));
      copyFileSync(point(0).copies[0] ?? '', file('norows.raw'));
      truncateSync(file('norows.raw'), statSync(point(-1).copies[0] ?? '').size);
      appliance.json(...disk(point(-1), 0, file('norows.raw'), '--differential'));
      sh('cmp', file('norows.raw'), point(-1).copies[0] ?? '');
    } finally {
      for (const path of rows) copyFileSync(`${path}.sound`, path);
      for (const path of rows) rmSync(`${path}.sound`);
    }
  });

  it('marks what it was interrupted at, and doing it again is right', async () => {
    const target = file('interrupted.raw');
    sh('dd', 'if=/dev/urandom', `of=${target}`, 'bs=1M', 'count=48', 'status=none');
    const mark = `${target}.sendense-incomplete.json`;
    const command = disk(point(-1), 0, target, '--differential');
    appliance.spawnCtl(...command);
    await until('it is under way', () => existsSync(mark));
    await appliance.kill();
    await appliance.start(settings);
    expect(JSON.parse(readFileSync(mark, 'utf8'))).toMatchObject({
      backup_id: point(-1).id,
      mode: 'differential',
    });
    const plan = appliance.rest('POST', '/api/v1/restore/disk/plan', {
      ...{ backup_id: point(-1).id, output: target, differential: true },
    });
    expect(JSON.parse(plan.body)).toMatchObject({ interrupted: { backup_id: point(-1).id } });
    appliance.json(...command);
    sh('cmp', '-n', String(statSync(point(-1).copies[0] ?? '').size), target, point(-1).copies[0] ?? '');
    expect(existsSync(mark)).toBe(false);
    expect(appliance.processes('qemu-storage-daemon')).toHaveLength(1);
    rmSync(target);
  });

  it('is refused for what is no raw disk', () => {
    sh('qemu-img', 'create', '-q', '-f', 'qcow2', file('image.qcow2'), '64M');
    const before = readFileSync(file('image.qcow2'));
    const refused = appliance.ctl(...disk(point(0), 0, file('image.qcow2'), '--differential'));
    expectFailure(refused, 'OUTPUT_INVALID', 2);
    truncateSync(file('image.qcow2'), before.length);
    expect(Buffer.compare(readFileSync(file('image.qcow2')), before)).toBe(0);
    const missing = appliance.ctl(...disk(point(0), 0, file('none.raw'), '--differential'));
    expectFailure(missing, 'OUTPUT_INVALID', 2);
    expect(readdirSync(work).filter((name) => name.includes('incomplete'))).toEqual([]);
  });
});
