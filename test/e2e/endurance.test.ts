import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { loadConfig } from '../../src/base/config/load-config.ts';
import { homePaths } from '../../src/base/home/home-paths.ts';
import { createLogger } from '../../src/base/logger.ts';
import { startAppliance } from '../../src/main/start-appliance.ts';
import { bytesOf, sh } from '../support/guest-disk.ts';
import { ask } from '../support/in-process-rest.ts';
import { seededRandom } from '../support/seeded-random.ts';

/** Two years of hours; the default looks at every 120th hour, `ENDURANCE_POINTS=17520` at each. */
const YEARS_2_HOURS = 2 * 365 * 24;
const points = Number(process.env['ENDURANCE_POINTS'] ?? 146);
const stepMs = (YEARS_2_HOURS / points) * 3_600_000;
const seed = Number(process.env['ENDURANCE_SEED'] ?? 11);
const MIB = 1024 * 1024;
const CLUSTER = 64 * 1024;
const DISK_BYTES = 48 * MIB;
const rules = {
  keep_last: 3,
  hourly: 24,
  daily: 14,
  weekly: 8,
  monthly: 12,
  yearly: 2,
  time_zone: 'Europe/Berlin',
};

const base = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();
const work = mkdtempSync(join(base, 'sd-end-'));
const disk = join(work, 'disk');
const home = join(work, 'h');
const socket = join(home, 'run', 'sendensed.sock');
let nowMs = Date.parse('2027-01-01T00:30:00Z');
let stop: () => Promise<void> = async () => undefined;

beforeAll(async () => {
  const loaded = await loadConfig({
    file: '/nonexistent',
    environment: {},
    // what merges in the background would make the size at a moment a matter of luck
    flags: [
      'exports.backend=storage-daemon',
      'chain.consolidate_mib_per_s=0',
      'verify.scrub_percent_per_day=0',
    ],
  });
  ({ stop } = await startAppliance({
    paths: homePaths(home),
    loaded,
    logger: createLogger('error'),
    version: 'endurance',
    ownerId: `endurance-${process.pid}`,
    moverFile: new URL('../../dist/main/sendense-mover.js', import.meta.url).pathname,
    vmFolder: new URL('../../build/vm', import.meta.url).pathname,
    volumesFile: new URL('../../dist/main/sendense-volumes.js', import.meta.url).pathname,
    mirrorFile: new URL('../../dist/main/sendense-mirror.js', import.meta.url).pathname,
    mountdFile: new URL('../../dist/main/sendense-mountd.js', import.meta.url).pathname,
    clock: { now: () => new Date(nowMs) },
  }));
});
afterAll(async () => {
  await stop();
  rmSync(work, { recursive: true, force: true });
});

/** As an operator who is told that chains are being shortened: waits and asks again. */
async function whenFree<T>(request: () => Promise<T>): Promise<T> {
  for (const deadline = Date.now() + 120_000; ; ) {
    try {
      return await request();
    } catch (error) {
      if (!/_BUSY"/.test(String(error)) || Date.now() > deadline) throw error;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
}

async function job(
  path: string,
  body: object,
): Promise<{ backup_id: string; result: { postponed?: string[] } | null }> {
  const { job_id } = await whenFree(() => ask<{ job_id: string }>(socket, 'POST', path, body));
  for (;;) {
    const shown = await ask<{ status: string; backup_id: string; error: unknown; result: null }>(
      socket,
      'GET',
      `/jobs/${job_id}`,
    );
    if (shown.status === 'completed') return shown;
    if (shown.status === 'failed' || shown.status === 'cancelled')
      throw new Error(JSON.stringify(shown.error));
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Bytes of clusters in which the second file differs from the first; of those that are not zero without a first. */
function differingBytes(before: string | null, after: string): number {
  const a = Buffer.alloc(MIB);
  const b = Buffer.alloc(MIB);
  const older = before === null ? null : openSync(before, 'r');
  const newer = openSync(after, 'r');
  let bytes = 0;
  for (let offset = 0; offset < DISK_BYTES; offset += MIB) {
    if (older !== null) readSync(older, a, 0, MIB, offset);
    readSync(newer, b, 0, MIB, offset);
    for (let at = 0; at < MIB; at += CLUSTER)
      if (!a.subarray(at, at + CLUSTER).equals(b.subarray(at, at + CLUSTER))) bytes += CLUSTER;
  }
  if (older !== null) closeSync(older);
  closeSync(newer);
  return bytes;
}

it(
  `keeps two years of ${points} backups exact and small (ENDURANCE_SEED=${seed})`,
  async () => {
    const { next } = seededRandom(seed);
    sh('truncate', '-s', String(DISK_BYTES), disk);
    const handle = openSync(disk, 'r+');
    writeSync(handle, bytesOf('first', 16 * MIB), 0, 16 * MIB, 0);
    await ask(socket, 'POST', '/vms', { name: 'm', disks: [{ path: disk }] });
    const kept: string[] = [];
    let worst = 0;
    for (let count = 0; count < points; count += 1) {
      nowMs += stepMs;
      // once the clock is set back for a while
      const back = count === Math.floor(points / 3) ? 5 * 24 * 3_600_000 : 0;
      nowMs -= back;
      for (let writes = 0; writes < 8; writes += 1) {
        const length = 256 * 1024 * (1 + Math.floor(next() * 3));
        const offset = Math.floor((next() * (DISK_BYTES - length)) / CLUSTER) * CLUSTER;
        const bytes = next() < 0.1 ? Buffer.alloc(length) : bytesOf(`${count}.${writes}`, length);
        writeSync(handle, bytes, 0, length, offset);
      }
      const { backup_id } = await job('/backup/start', { vm_name: 'm', backup_type: 'incremental' });
      copyFileSync(disk, join(work, backup_id));
      kept.push(backup_id);
      nowMs += back;
      const plan = await ask<{
        plan_id: string;
        deletes: number;
        machines: { points: { backup_id: string; action: string }[] }[];
      }>(...([socket, 'POST', '/prune/plan', { vm_name: 'm', rules }] as const));
      if (plan.deletes > 0) {
        await job('/prune/apply', { plan_id: plan.plan_id });
        for (const { backup_id: gone, action } of plan.machines.flatMap((machine) => machine.points)) {
          if (action !== 'delete') continue;
          kept.splice(kept.indexOf(gone), 1);
          rmSync(join(work, gone));
        }
      }
      if (count % Math.ceil(points / 12) === 0 || count === points - 1)
        worst = Math.max(worst, await look(kept));
    }
    closeSync(handle);
    expect(kept.length).toBeGreaterThan(12);
    expect(worst).toBeLessThan(1.2);
  },
  24 * 3_600_000,
);

/** Every restore point against its copy with plain qemu-img. @returns size of the repository ÷ unique changed data */
async function look(kept: readonly string[]): Promise<number> {
  const { backups } = await ask<{
    backups: { backup_id: string; completed_at: string; disks: { layer: string }[] }[];
  }>(...([socket, 'GET', '/backup/list?vm_name=m&limit=1000'] as const));
  expect(backups.map(({ backup_id }) => backup_id).toSorted()).toEqual(kept.toSorted());
  const folder = sh('find', join(home, 'backups'), '-name', 'disk-0').trim();
  for (const { backup_id, disks } of backups)
    sh(
      'qemu-img',
      'compare',
      '-q',
      '-f',
      'qcow2',
      '-F',
      'raw',
      join(folder, disks[0]?.layer ?? ''),
      join(work, backup_id),
    );
  let unique = 0;
  let previous: string | null = null;
  for (const { backup_id } of backups.toSorted((a, b) => a.completed_at.localeCompare(b.completed_at))) {
    unique += differingBytes(previous, join(work, backup_id));
    previous = join(work, backup_id);
  }
  const files = sh('find', folder, '-type', 'f').trim().split('\n');
  const used = files.reduce((sum, file) => sum + statSync(file).blocks * 512, 0);
  const depth = JSON.parse(readFileSync(join(folder, '..', 'vm.json'), 'utf8')) as { vm_name: string };
  expect(depth.vm_name).toBe('m');
  return used / unique;
}
