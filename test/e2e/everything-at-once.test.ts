import { copyFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { sh } from '../support/guest-disk.ts';
import { ask } from '../support/in-process-rest.ts';
import { Operator } from '../support/operator.ts';
import { RandomDisk } from '../support/random-disk.ts';
import { seededRandom } from '../support/seeded-random.ts';

const seed = Number(process.env['CONCURRENCY_SEED'] ?? Math.floor(Math.random() * 1e9));
const SECONDS = 25;
/** What may be answered to who comes second; anything else is a fault. */
const refusals = new Set([
  'BACKUP_BUSY',
  'BACKUP_HAS_DEPENDANTS',
  'BACKUP_NOT_COMPLETE',
  'BACKUP_UNKNOWN',
  'CHAIN_BUSY',
  'DISK_BUSY',
  'LIMIT_REACHED',
  'PLAN_STALE',
  'REPOSITORY_BUSY',
  'VM_BUSY',
  'NOTHING_TO_VERIFY',
  'VERIFY_RUNNING',
]);

let work: string;
let appliance: TestAppliance;
let operator: Operator;

beforeAll(async () => {
  work = mkdtempSync(join(tmpdir(), 'sd-all-'));
  appliance = new TestAppliance();
  operator = new Operator(appliance);
  await appliance.start(['exports.backend=storage-daemon', 'chain.max_depth=6', 'jobs.max_concurrent=4']);
});
afterAll(async () => {
  await appliance.dispose();
  rmSync(work, { recursive: true, force: true });
});

it(`backs up, prunes, merges, verifies, mounts, copies and deletes at the same time (CONCURRENCY_SEED=${seed})`, async () => {
  const { next, pick } = seededRandom(seed);
  const disk = new RandomDisk(join(work, 'disk'), 12, seed);
  // a file system that mounts, and behind it room to change
  sh('mkfs.ext4', '-q', '-F', disk.path, '6M');
  disk.firstByte = 6 * 1024 * 1024;
  appliance.json('vm', 'add', 'm', '--disk', disk.path);
  appliance.json('repository', 'add', 'usb', '--path', join(work, 'usb'));
  const socket = join(appliance.home, 'run', 'sendensed.sock');
  const copies = new Map<string, string>();
  const strange: string[] = [];
  const counts = new Map<string, number>();
  const deadline = Date.now() + SECONDS * 1000;

  const attempt = async (what: string, work_: () => Promise<unknown>) => {
    try {
      await work_();
      counts.set(what, (counts.get(what) ?? 0) + 1);
    } catch (error) {
      const code = /"code":"([A-Z_]+)"/.exec(String(error))?.[1] ?? String(error);
      // of one that was deleted in between a copy is left, and means itself
      const isCopyOfGone = String(error).includes('already') && what === 'copy';
      if (!refusals.has(code) && !isCopyOfGone) strange.push(`${what}: ${String(error).slice(0, 400)}`);
    }
  };
  const follow = async (jobId: string) => {
    for (;;) {
      const job = await ask<{ status: string; error: { code: string } | null }>(
        socket,
        'GET',
        `/jobs/${jobId}`,
      );
      if (job.status === 'completed') return;
      if (job.status === 'failed' || job.status === 'cancelled') throw new Error(JSON.stringify(job.error));
      await sleep(20);
    }
  };
  const start = async (path: string, body: object) => {
    const { job_id } = await ask<{ job_id: string }>(socket, 'POST', path, body);
    await follow(job_id);
  };
  const some = async () => {
    const { backups } = await ask<{ backups: { backup_id: string; repository: string }[] }>(
      ...([socket, 'GET', '/backup/list?vm_name=m&status=completed&limit=50'] as const),
    );
    return pick(backups.filter(({ repository }) => repository === 'local'))?.backup_id ?? 'none';
  };
  const backUp = async () => {
    // nobody else changes the disk, so that its copy is what the backup saw
    disk.write(3);
    const { job_id, backup_id } = await ask<{ job_id: string; backup_id: string }>(
      ...([
        socket,
        'POST',
        '/backup/start',
        { vm_name: 'm', backup_type: pick(['incremental', 'incremental', 'differential']) },
      ] as const),
    );
    copyFileSync(disk.path, join(work, backup_id));
    await follow(job_id);
    copies.set(backup_id, join(work, backup_id));
  };
  const others: Record<string, () => Promise<unknown>> = {
    prune: async () => {
      const { plan_id } = await ask<{ plan_id: string }>(
        ...([
          socket,
          'POST',
          '/prune/plan',
          { vm_name: 'm', repository: 'local', rules: { keep_last: 5 } },
        ] as const),
      );
      await start('/prune/apply', { plan_id });
    },
    consolidate: () => start('/backup/consolidate', { vm_name: 'm', full: next() < 0.2 }),
    verify: async () => start('/verify', next() < 0.5 ? { vm_name: 'm' } : { backup_id: await some() }),
    mount: async () => {
      const { mount_id } = await ask<{ mount_id: string }>(socket, 'POST', '/restore/mount', {
        backup_id: await some(),
      });
      await sleep(next() * 400);
      await ask(socket, 'DELETE', `/restore/${mount_id}`);
    },
    restore: async () => {
      const output = join(work, `restored-${Math.floor(next() * 1e9)}`);
      const backup_id = await some();
      await start('/restore/disk', { backup_id, disk: 0, output });
      const copy = copies.get(backup_id);
      if (copy !== undefined && existsSync(copy)) sh('cmp', output, copy);
      rmSync(output, { force: true });
    },
    copy: async () => start('/backup/copy', { backup_id: await some(), to: 'usb' }),
    delete: async () => ask(socket, 'DELETE', `/backup/${await some()}?merge=${next() < 0.7}`),
  };
  const lane = async (names: readonly string[]) => {
    while (Date.now() < deadline) {
      const name = pick([...names]);
      if (name === 'backup') await attempt(name, backUp);
      else await attempt(name, others[name] ?? (async () => undefined));
    }
  };
  await Promise.all([
    lane(['backup']),
    lane(['prune', 'consolidate', 'delete']),
    lane(['mount', 'restore', 'mount']),
    lane(['verify', 'copy', 'consolidate']),
  ]);
  expect(strange).toEqual([]);
  // most of them got their turn; on a busy machine one or the other may always have met somebody else
  expect(counts.get('backup') ?? 0).toBeGreaterThan(0);
  expect(counts.size, JSON.stringify([...counts])).toBeGreaterThanOrEqual(6);

  await operator.idle();
  appliance.json('backup', 'consolidate', '--vm', 'm', '--wait');
  appliance.json('verify', 'vm', 'm', '--wait');
  const left = operator.backups('--vm', 'm').filter(({ repository }) => repository === 'local');
  expect(left.length).toBeGreaterThan(0);
  for (const { backup_id } of left) operator.expectRestored(backup_id, 0, copies.get(backup_id) ?? '');
  const folder = join(appliance.home, 'backups');
  const files = readdirSync(folder, { recursive: true }).map(String);
  expect(files.filter((name) => /\.(partial|written|tmp)$|merge\.json$/.test(name))).toEqual([]);
  for (const name of files.filter((file) => /\/backups\/.*\.json$/.test(file))) {
    const { backup_id, disks } = JSON.parse(readFileSync(join(folder, name), 'utf8')) as {
      backup_id: string;
      disks: { layer: string }[];
    };
    const layer = join(folder, name, '..', '..', 'disk-0', disks[0]?.layer ?? '');
    sh('qemu-img', 'compare', '-q', '-f', 'qcow2', '-F', 'raw', layer, copies.get(backup_id) ?? '');
  }
}, 400_000);
