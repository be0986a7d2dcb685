/** Compares the restore of a whole disk with qemu-img convert of the same chain. See docs/benchmarks.md; never part of a test. */
import { execFileSync, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  mkdtempSync,
  openSync,
  rmSync,
  statfsSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { TestAppliance } from '../test/support/appliance.ts';
import { seededRandom } from '../test/support/seeded-random.ts';

const MIB = 1024 * 1024;
const rounds = Number(process.env['BENCH_ROUNDS'] ?? 5);
const memory = statfsSync('/dev/shm');
if (memory.bavail * memory.bsize < 12 * 1024 * MIB) throw new Error('it needs 12 GiB in /dev/shm');
const work = mkdtempSync('/dev/shm/sd-bench-');
const at = (name: string) => join(work, name);
const median = (values: readonly number[]) =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;

/** Random data in runs, each followed by a hole. */
function makeImage(path: string, dataMib: number, runOf: () => number, sizeMib: number): void {
  writeFileSync(path, '');
  truncateSync(path, sizeMib * MIB);
  const handle = openSync(path, 'r+');
  for (let written = 0, offset = 0; written < dataMib * MIB && offset < sizeMib * MIB; ) {
    const length = Math.min(runOf(), sizeMib * MIB - offset, dataMib * MIB - written);
    for (let done = 0; done < length; done += MIB) {
      const piece = randomBytes(Math.min(MIB, length - done));
      writeSync(handle, piece, 0, piece.length, offset + done);
    }
    written += length;
    offset += 2 * length;
  }
  closeSync(handle);
}

function ask<T>(home: string, method: string, path: string, body?: object): Promise<T> {
  return new Promise((resolve, reject) => {
    const socketPath = join(home, 'run', 'sendensed.sock');
    const headers = { 'Content-Type': 'application/json' };
    const sent = request({ agent: false, socketPath, method, path: `/api/v1${path}`, headers }, (answer) => {
      const chunks: Buffer[] = [];
      answer.on('data', (chunk: Buffer) => chunks.push(chunk));
      answer.on('end', () => resolve(JSON.parse(Buffer.concat(chunks).toString()) as T));
    });
    sent.on('error', reject);
    sent.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

async function restore(home: string, body: object): Promise<number> {
  const started = performance.now();
  const { job_id } = await ask<{ job_id: string }>(home, 'POST', '/restore/disk', body);
  for (;;) {
    const shown = await ask<{ status: string; error: unknown }>(home, 'GET', `/jobs/${job_id}`);
    if (shown.status === 'completed') return (performance.now() - started) / 1000;
    if (shown.status !== 'running' && shown.status !== 'pending')
      throw new Error(JSON.stringify(shown.error));
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

function convert(layer: string, output: string): number {
  const started = performance.now();
  execFileSync('qemu-img', ['convert', '-O', 'raw', layer, output]);
  return (performance.now() - started) / 1000;
}

/** Memory that was just used: the first touch of a page is the host's business. */
const warm = (mib: number) => {
  execFileSync('dd', ['if=/dev/zero', `of=${at('warm')}`, 'bs=1M', `count=${mib}`, 'status=none']);
  rmSync(at('warm'));
};

const { next } = seededRandom(1);
const shapes = [
  { name: '2 GiB random, runs of 16 MiB', dataMib: 2048, runOf: () => 16 * MIB },
  {
    name: '1 GiB scattered, runs of 64 KiB to 4 MiB',
    dataMib: 1024,
    runOf: () => 65_536 * (1 + Math.floor(next() * 64)),
  },
];
try {
  for (const { name, dataMib, runOf } of shapes) {
    const appliance = new TestAppliance(at('home'), at('log'));
    try {
      makeImage(at('disk.img'), dataMib, runOf, 4096);
      await appliance.start(['exports.backend=storage-daemon']);
      appliance.json('vm', 'add', 'm', '--disk', at('disk.img'));
      const { backup_id } = appliance.json<{ backup_id: string }>('backup', 'start', '--vm', 'm', '--wait');
      const found = spawnSync('find', [join(at('home'), 'backups'), '-name', '*.qcow2'], {
        encoding: 'utf8',
      });
      const layer = found.stdout.trim();
      const times: Record<'ours' | 'theirs' | 'again', number[]> = { ours: [], theirs: [], again: [] };
      for (let round = 0; round < rounds; round += 1) {
        warm(dataMib + 256);
        times.ours.push(await restore(at('home'), { backup_id, output: at('out.raw') }));
        times.again.push(await restore(at('home'), { backup_id, output: at('out.raw'), differential: true }));
        if (round === 0) execFileSync('cmp', [at('out.raw'), at('disk.img')]);
        rmSync(at('out.raw'));
        warm(dataMib + 256);
        times.theirs.push(convert(layer, at('out.raw')));
        rmSync(at('out.raw'));
      }
      if (process.env['BENCH_SAMPLES']) console.log(times);
      const [ours, theirs, again] = [median(times.ours), median(times.theirs), median(times.again)];
      console.log(
        `${name}: restore ${ours.toFixed(2)} s, qemu-img convert ${theirs.toFixed(2)} s, rate ${(theirs / ours).toFixed(2)} of it; differential with nothing to write ${again.toFixed(2)} s`,
      );
    } finally {
      await appliance.stop();
      rmSync(at('home'), { recursive: true, force: true });
      rmSync(at('disk.img'), { force: true });
    }
  }
} finally {
  rmSync(work, { recursive: true, force: true });
}
