/**
 * A policy of many machines that is started at once: 200 machines on whatever this host
 * has. Tells how long the run took, the most jobs at once, the daemon's peak memory, and how the API answered meanwhile.
 * Run: `node bench/policies.ts` (`POLICY_MACHINES=20` for a quick look). Needs about 1 GiB in TMPDIR.
 */
import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { TestAppliance } from '../test/support/appliance.ts';
import { ask } from '../test/support/in-process-rest.ts';

const MACHINES = Number(process.env['POLICY_MACHINES'] ?? 200);
const DISK_BYTES = 16 * 1024 ** 2;
const DATA_BYTES = 2 * 1024 ** 2;
const LIMIT = 2;

interface Run {
  readonly run_id: number;
  readonly outcome: string | null;
  readonly detail: string;
  readonly counts: Readonly<Record<string, number>>;
}

const work = mkdtempSync(join(process.env['TMPDIR'] ?? tmpdir(), 'sd-bench-policies-'));
mkdirSync(join(work, 'disks'));
const appliance = new TestAppliance(join(work, 'home'));
const socket = join(appliance.home, 'run', 'sendensed.sock');
mkdirSync(appliance.home);

/** From proc(5), MiB. */
function peakMib(): number {
  const status = readFileSync(`/proc/${appliance.pid}/status`, 'utf8');
  return Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024;
}

/** Asks until told to stop. @returns how long each answer took, ms */
async function watch(paths: readonly string[], isOver: () => boolean): Promise<number[]> {
  const took: number[] = [];
  while (!isOver()) {
    for (const path of paths) {
      const startedMs = performance.now();
      await ask(socket, 'GET', path);
      took.push(performance.now() - startedMs);
    }
    await sleep(20);
  }
  return took;
}

const at = (sorted: readonly number[], share: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;

try {
  await appliance.start([
    ...['exports.backend=storage-daemon', `policies.max_per_repository=${LIMIT}`],
    `policies.max_per_source=${LIMIT}`,
  ]);
  for (let machine = 0; machine < MACHINES; machine += 1) {
    const name = `m${String(machine).padStart(3, '0')}`;
    const path = join(work, 'disks', `${name}.img`);
    const disk = Buffer.alloc(DISK_BYTES);
    randomBytes(DATA_BYTES).copy(disk, 4096 * machine);
    writeFileSync(path, disk);
    await ask(socket, 'POST', '/vms', { name, disks: [{ path, format: 'raw' }] });
  }
  await ask(socket, 'POST', '/policies', { name: 'all', machines: { patterns: ['*'] }, full: 'weekly' });
  console.log('| what | run | most jobs at once | answers | p50 | p99 | worst | peak memory |');
  console.log('| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |');
  for (const what of ['fulls', 'incrementals']) {
    const startedMs = performance.now();
    const { run_id } = await ask<Run>(socket, 'POST', '/policies/all/run', { kind: 'backup' });
    let run: Run | null = null;
    let most = 0;
    const isOver = () => run !== null && run.outcome !== null;
    const answers = watch(
      [
        '/health',
        '/jobs?limit=50',
        '/backup/list?limit=50',
        `/policy-runs/${run_id}`,
        '/status',
        '/policies',
      ],
      isOver,
    );
    while (!isOver()) {
      run = await ask<Run>(socket, 'GET', `/policy-runs/${run_id}`);
      const { jobs } = await ask<{ jobs: { kind: string; status: string }[] }>(
        socket,
        'GET',
        '/jobs?status=running&limit=1000',
      );
      most = Math.max(most, jobs.filter(({ kind }) => kind === 'backup').length);
      await sleep(50);
    }
    const seconds = (performance.now() - startedMs) / 1000;
    const took = (await answers).toSorted((a, b) => a - b);
    const ended = run as Run | null;
    if (ended?.counts['completed'] !== MACHINES || most > LIMIT)
      throw new Error(`not as it should be: ${JSON.stringify(ended)}, ${most} at once`);
    console.log(
      `| ${MACHINES} ${what} | ${seconds.toFixed(1)} s | ${most} | ${took.length} | ${at(took, 0.5).toFixed(1)} ms | ${at(took, 0.99).toFixed(1)} ms | ${at(took, 1).toFixed(1)} ms | ${peakMib().toFixed(0)} MiB |`,
    );
  }
} finally {
  await appliance.dispose();
  rmSync(work, { recursive: true, force: true });
}
