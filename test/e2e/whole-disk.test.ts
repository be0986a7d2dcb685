import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { bytesOf, sh } from '../support/guest-disk.ts';
import { expectFailure, Operator, type ShownJob, until } from '../support/operator.ts';
import { RandomDisk } from '../support/random-disk.ts';

const MIB = 1024 * 1024;
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

describe('files', () => {
  it.each(['raw', 'qcow2', 'vmdk', 'vhdx'])('all disks of a machine as %s', (format) => {
    const folder = file(`all-${format}`);
    appliance.json('restore', 'vm', '--backup-id', point(-1).id, '--output', folder, '--as', format);
    expect(readdirSync(folder).sort()).toEqual([`disk-0.${format}`, `disk-1.${format}`]);
    for (const [index, copy] of point(-1).copies.entries())
      sh('qemu-img', 'compare', '-f', 'raw', '-F', format, copy, join(folder, `disk-${index}.${format}`));
    if (format === 'raw')
      for (const [index, copy] of point(-1).copies.entries())
        sh('cmp', copy, join(folder, `disk-${index}.raw`));
    const again = appliance.ctl(
      'restore',
      'vm',
      '--backup-id',
      point(-1).id,
      '--output',
      folder,
      '--as',
      format,
    );
    expectFailure(again, 'OUTPUT_EXISTS', 13);
    rmSync(folder, { recursive: true });
  });

  it('has holes where the backup has zeros', () => {
    const output = file('sparse.raw');
    appliance.json(...disk(point(0), 0, output));
    const dense = file('dense.raw');
    sh('cp', '--sparse=always', point(0).copies[0] ?? '', dense);
    // cp finds zeros of 4 KiB as well
    expect(statSync(output).blocks).toBeLessThanOrEqual(statSync(dense).blocks + 512);
    rmSync(output);
    rmSync(dense);
  });

  it('goes on after the daemon was killed, and writes nothing twice', async () => {
    const output = file('killed.raw');
    const partial = `${output}.sendense-partial`;
    appliance.spawnCtl(...disk(point(-1), 0, output));
    const done = () => {
      if (!existsSync(`${partial}.json`)) return 0;
      return (JSON.parse(readFileSync(`${partial}.json`, 'utf8')) as { done_bytes: number }).done_bytes;
    };
    await until('some pieces are written', () => done() >= 5 * MIB);
    await appliance.kill();
    await appliance.start(settings);
    const before = done();
    // a mark in what is done already: it would be gone if that were written again
    const handle = openSync(partial, 'r+');
    writeSync(handle, 'MARK', 100);
    closeSync(handle);
    const wrong = appliance.ctl(...disk(point(0), 0, output, '--resume'));
    expectFailure(wrong, 'RESUME_NOTHING', 13);
    const job = appliance.json<ShownJob>(...disk(point(-1), 0, output, '--resume'));
    expect(resultOf(job)['resumed_at_bytes']).toBe(before);
    const restored = openSync(output, 'r+');
    const mark = readFileSync(output).subarray(100, 104).toString();
    expect(mark).toBe('MARK');
    writeSync(restored, readFileSync(point(-1).copies[0] ?? '').subarray(100, 104), 0, 4, 100);
    closeSync(restored);
    sh('cmp', output, point(-1).copies[0] ?? '');
    expect(existsSync(partial) || existsSync(`${partial}.json`)).toBe(false);
    rmSync(output);
  });

  it('leaves nothing when it is cancelled, unless that is wanted', async () => {
    for (const keep of [false, true]) {
      const output = file(`cancelled-${keep}.raw`);
      const { job_id } = JSON.parse(
        appliance.rest('POST', '/api/v1/restore/disk', { backup_id: point(0).id, output, keep_partial: keep })
          .body,
      ) as ShownJob;
      await until('it began', () => operator.job(job_id).progress.processed_bytes > 3 * MIB);
      appliance.json('job', 'cancel', job_id);
      await until('it ended', () => operator.job(job_id).status === 'cancelled');
      expect(existsSync(`${output}.sendense-partial`)).toBe(keep);
      if (keep) {
        const job = appliance.json<ShownJob>(...disk(point(0), 0, output));
        expect(resultOf(job)['resumed_at_bytes']).toBeGreaterThanOrEqual(3 * MIB);
        sh('cmp', output, point(0).copies[0] ?? '');
      }
    }
  });

  it('skips the disks of a machine that are there when it goes on', async () => {
    const folder = file('machine');
    appliance.spawnCtl('restore', 'vm', '--backup-id', point(1).id, '--output', folder);
    await until('one disk is there', () => existsSync(join(folder, '.sendense-restore.json')));
    await appliance.kill();
    await appliance.start(settings);
    const first = statSync(join(folder, 'disk-0.raw'));
    const job = appliance.json<ShownJob>('restore', 'vm', '--backup-id', point(1).id, '--output', folder);
    expect(resultOf(job)['skipped_disks']).toEqual([0]);
    expect(statSync(join(folder, 'disk-0.raw')).ino).toBe(first.ino);
    for (const [index, copy] of point(1).copies.entries()) sh('cmp', copy, join(folder, `disk-${index}.raw`));
    expect(readdirSync(folder)).toHaveLength(2);
  });
});

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

describe('NBD exports', () => {
  it('get every byte, zeros too', async () => {
    const size = statSync(point(-1).copies[0] ?? '').size;
    sh(
      'dd',
      'if=/dev/urandom',
      `of=${file('remote')}`,
      'bs=1M',
      `count=${Math.ceil(size / MIB) + 1}`,
      'status=none',
    );
    const { uri, server } = await serve(file('remote'));
    expectFailure(appliance.ctl(...disk(point(-1), 0, uri)), 'OUTPUT_UNCONFIRMED', 13);
    appliance.json(...disk(point(-1), 0, uri, ...sure(uri)));
    sh('cmp', '-n', String(size), file('remote'), point(-1).copies[0] ?? '');
    const job = appliance.json<ShownJob>(...disk(point(0), 0, uri, '--differential', ...sure(uri)));
    sh(
      'cmp',
      '-n',
      String(statSync(point(0).copies[0] ?? '').size),
      file('remote'),
      point(0).copies[0] ?? '',
    );
    expect(resultOf(job)['changed_bytes']).toBeGreaterThan(0);
    server.kill('SIGKILL');
    await until('it is gone', () => server.signalCode !== null);
    expectFailure(appliance.ctl(...disk(point(-1), 0, uri, ...sure(uri))), 'TARGET_FAILED', 21);
  });

  it('are reached over TCP, and refused when they are too small', async () => {
    const size = statSync(point(-1).copies[0] ?? '').size;
    const port = 20_000 + (process.pid % 20_000);
    for (const [bytes, code] of [
      [size, null],
      [size - 512, 'OUTPUT_TOO_SMALL'],
    ] as const) {
      const backing = file(`tcp-${bytes}`);
      sh('truncate', '-s', String(bytes), backing);
      const server = spawn('nbdkit', ['-f', '-i', '127.0.0.1', '-p', String(port), 'file', backing], {
        stdio: 'ignore',
      });
      servers.push(server);
      const uri = `nbd://127.0.0.1:${port}/`;
      await until('nbdkit listens', () => spawnSync('nbdinfo', [uri]).status === 0);
      const result = appliance.ctl(...disk(point(-1), 0, uri, ...sure(uri)));
      if (code === null) sh('cmp', backing, point(-1).copies[0] ?? '');
      else expectFailure(result, code, 13);
      server.kill('SIGKILL');
      await until('it is gone', () => server.signalCode !== null);
    }
  });

  it('go on when the server is there again', async () => {
    const size = statSync(point(-1).copies[0] ?? '').size;
    sh(
      'dd',
      'if=/dev/urandom',
      `of=${file('lost')}`,
      'bs=1M',
      `count=${Math.ceil(size / MIB)}`,
      'status=none',
    );
    truncateSync(file('lost'), size);
    const { uri, server } = await serve(file('lost'));
    const body = { backup_id: point(-1).id, output: uri, confirm_device: uri };
    const { job_id } = JSON.parse(appliance.rest('POST', '/api/v1/restore/disk', body).body) as ShownJob;
    await until('it began', () => operator.job(job_id).progress.processed_bytes > 4 * MIB);
    server.kill('SIGKILL');
    await until('it failed', () => operator.job(job_id).status === 'failed');
    expect(operator.job(job_id)).toMatchObject({ error: { code: 'TARGET_FAILED' } });
    expect(operator.job(job_id).warnings.join()).toContain('is incomplete');
    const socket = uri.slice(uri.indexOf('=') + 1);
    rmSync(socket);
    servers.push(spawn('nbdkit', ['-f', '-U', socket, 'file', file('lost')], { stdio: 'ignore' }));
    await until('nbdkit listens', () => existsSync(socket));
    const job = appliance.json<ShownJob>(...disk(point(-1), 0, uri, '--resume', ...sure(uri)));
    expect(resultOf(job)['resumed_at_bytes']).toBeGreaterThanOrEqual(3 * MIB);
    sh('cmp', file('lost'), point(-1).copies[0] ?? '');
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
