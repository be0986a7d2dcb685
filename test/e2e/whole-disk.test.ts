import { spawn, spawnSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { sh } from '../support/guest-disk.ts';
import { expectFailure, type ShownJob, until } from '../support/operator.ts';
import { wholeDiskBench } from '../support/whole-disk-bench.ts';

const MIB = 1024 * 1024;
const { file, appliance, operator, settings, point, serve, disk, sure, servers, resultOf } = wholeDiskBench();

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
