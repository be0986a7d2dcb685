/** Compares a verification with b3sum on one core over the same bytes. Never part of a test. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { TestAppliance } from '../test/support/appliance.ts';
import { bytesOf } from '../test/support/guest-disk.ts';

const MIB = 1024 * 1024;
const sizeMib = Number(process.env['BENCH_MIB'] ?? 2048);
const rounds = Number(process.env['BENCH_ROUNDS'] ?? 5);
/** In memory when there is room: a disk would measure itself. */
const free = existsSync('/dev/shm') ? statfsSync('/dev/shm') : null;
const base = free !== null && free.bavail * free.bsize > 3 * sizeMib * MIB ? '/dev/shm' : tmpdir();
const work = mkdtempSync(join(base, 'sd-bench-'));
const home = join(work, 'home');
mkdirSync(home);
const appliance = new TestAppliance(home);
const median = (values: readonly number[]) =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;

interface Job {
  readonly result: { bytes: number };
  readonly started_at: string;
  readonly finished_at: string;
}

try {
  const disk = join(work, 'disk');
  writeFileSync(disk, '');
  for (let part = 0; part < sizeMib; part += 64)
    writeFileSync(disk, bytesOf(`part ${part}`, Math.min(64, sizeMib - part) * MIB), { flag: 'a' });
  await appliance.start(['exports.backend=storage-daemon', 'verify.scrub_percent_per_day=0']);
  appliance.json('vm', 'add', 'm', '--disk', disk);
  appliance.json('backup', 'start', '--vm', 'm', '--wait');
  const rates = new Map<string, number[]>([
    ['verify', []],
    ['b3sum --num-threads 1', []],
  ]);
  for (let round = 0; round < rounds; round += 1) {
    const job = appliance.json<Job>('verify', 'vm', 'm', '--wait');
    const seconds = (Date.parse(job.finished_at) - Date.parse(job.started_at)) / 1000;
    rates.get('verify')?.push(job.result.bytes / MIB / seconds);
    const startedMs = performance.now();
    const hashed = spawnSync('b3sum', ['--num-threads', '1', '--no-mmap', disk], { stdio: 'ignore' });
    if (hashed.status !== 0) throw new Error('b3sum failed; is it installed?');
    rates.get('b3sum --num-threads 1')?.push(sizeMib / ((performance.now() - startedMs) / 1000));
  }
  for (const [name, values] of rates)
    console.log(
      `${name.padEnd(24)} ${Math.round(median(values))} MiB/s (median of ${rounds}, ${sizeMib} MiB)`,
    );
} finally {
  await appliance.dispose();
  rmSync(work, { recursive: true, force: true });
}
