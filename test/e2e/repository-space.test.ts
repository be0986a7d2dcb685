import {
  closeSync,
  copyFileSync,
  fsyncSync,
  mkdtempSync,
  openSync,
  readdirSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { bytesOf } from '../support/guest-disk.ts';
import { LoopFolder } from '../support/loop-folder.ts';
import { expectFailure, Operator } from '../support/operator.ts';

const MIB = 1024 * 1024;
let work: string;
let appliance: TestAppliance;
let operator: Operator;
let small: LoopFolder;
let disk: string;

beforeEach(async () => {
  work = mkdtempSync(join(tmpdir(), 'sd-space-'));
  appliance = new TestAppliance();
  operator = new Operator(appliance);
  small = new LoopFolder(join(work, 'small'), 64, '-m', '0', '-O', '^has_journal');
  disk = join(work, 'disk');
  writeFileSync(disk, bytesOf('disk', 8 * MIB));
  small.mount();
});
afterEach(async () => {
  await appliance.dispose();
  small.dispose();
  rmSync(work, { recursive: true, force: true });
});

const startAgain = (reserveMib: number) =>
  appliance.start([
    'exports.backend=storage-daemon',
    'repository.poll_s=1',
    `repository.reserve_bytes=${reserveMib * MIB}`,
  ]);
async function start(reserveMib: number): Promise<void> {
  await startAgain(reserveMib);
  appliance.json('vm', 'add', 'm', '--disk', disk);
  appliance.json('repository', 'add', 'small', '--path', small.path);
}
const backUp = (type: string) => operator.backUp('m', type, '--repository', 'small');
const tryBackUp = (type: string) =>
  appliance.ctl(...['backup', 'start', '--vm', 'm', '--type', type, '--repository', 'small', '--wait']);
const layers = () =>
  readdirSync(small.path, { recursive: true })
    .map(String)
    .filter((name) => /disk-\d+\/./.test(name));
interface Space {
  available_bytes: number;
  used_bytes: number;
  growth_bytes_per_day: number | null;
  full_at: string | null;
}
const space = (name: string) => appliance.json<Space>('repository', 'show', name);
/** Not a byte is left afterwards. */
function fill(name: string): void {
  const file = openSync(join(small.path, name), 'w');
  const zeros = Buffer.alloc(65_536);
  for (const chunk of [zeros, zeros.subarray(0, 512)]) {
    try {
      for (;;) {
        writeSync(file, chunk);
        fsyncSync(file);
      }
    } catch {
      // full
    }
  }
  closeSync(file);
}

it('refuses what will not fit before it writes, and says how much is missing', async () => {
  await start(4);
  writeFileSync(disk, bytesOf('big', 70 * MIB));
  const first = tryBackUp('full');
  expectFailure(first, 'REPOSITORY_FULL', 21);
  expect(first.stderr).toMatch(
    /needs about 70\.\d MiB, 5\d\.\d MiB are free, 4\.0 MiB of them reserved; 1\d\.\d MiB are missing/,
  );
  expect(first.stderr).toContain('prune plan');
  expect(readdirSync(small.path).filter((name) => name.length === 36)).toEqual([]);

  // a sparse disk of any size is no reason
  writeFileSync(disk, bytesOf('a', 8 * MIB));
  truncateSync(disk, 10_000 * MIB);
  expect(tryBackUp('full').code).toBe(0);
  // by the last one it will not fit, whatever the size of its disk
  writeFileSync(join(small.path, 'filler'), bytesOf('filler', 40 * MIB));
  const next = tryBackUp('full');
  expectFailure(next, 'REPOSITORY_FULL', 21);
  expect(layers()).toHaveLength(3);
  // nobody knows what the first incremental needs: it is tried, with a warning
  const unknown = tryBackUp('incremental');
  expect(unknown.code).toBe(0);
  expect(unknown.stderr).toContain('warning: Whether this backup fits is not known');
});

it('stops before the reserve is used, keeps what is older and leaves room to finish', async () => {
  await start(16);
  const first = backUp('full').backup_id;
  copyFileSync(disk, `${disk}.first`);
  writeFileSync(disk, bytesOf('other', 60 * MIB));
  const before = layers();
  const result = tryBackUp('incremental');
  expectFailure(result, 'REPOSITORY_FULL', 21);
  expect(result.stderr).toContain('16.0 MiB are reserved');
  expect(layers()).toEqual(before);
  operator.expectRestored(first, 0, `${disk}.first`);
});

it('deletes and prunes when not a byte is left, also after a restart', async () => {
  await start(0);
  const old = [backUp('full').backup_id, backUp('incremental').backup_id];
  const middle = backUp('full').backup_id;
  const kept = backUp('full').backup_id;
  fill('filler');
  expect(space('small').available_bytes).toBe(0);
  await appliance.stop();
  await startAgain(0);
  const used = space('small').used_bytes;
  expect(appliance.ctl('backup', 'delete', old[0] ?? '', '--cascade').code).toBe(0);
  expect(space('small').available_bytes).toBeGreaterThan(7 * MIB);
  expect(space('small').used_bytes).toBeLessThan(used);
  fill('filler2');
  const { plan_id } = appliance.json<{ plan_id: string }>(
    ...['prune', 'plan', '--repository', 'small', '--keep-last', '1'],
  );
  const pruned = appliance.ctl('prune', 'apply', '--plan', plan_id, '--wait');
  expect(pruned.code, pruned.stderr).toBe(0);
  expect(appliance.ctl('backup', 'show', middle).code).toBe(10);
  expect(layers()).toHaveLength(3);
  operator.expectRestored(kept, 0, disk);
  rmSync(join(small.path, 'filler'));
  rmSync(join(small.path, 'filler2'));
  expect(backUp('incremental').disks[0]?.backup_type).toBe('incremental');
});
it('tells when it will be full, and warns once a day below seven days', async () => {
  await start(0);
  backUp('full');
  const { used_bytes, growth_bytes_per_day } = space('small');
  expect(used_bytes).toBeGreaterThan(8 * MIB);
  expect(growth_bytes_per_day).toBeNull();
  await appliance.stop();
  // by the catalogue it grew by 10 MiB on each of the last days
  const db = new Database(join(appliance.home, 'state', 'catalog.db'));
  const id = db.prepare(`SELECT id FROM backup_repositories WHERE name = 'small'`).pluck().get();
  const day = db.prepare(
    'INSERT OR REPLACE INTO repository_sizes (repository_id, day, used_bytes) VALUES (?, ?, ?)',
  );
  const now = Date.now();
  for (let ago = 9; ago > 0; ago -= 1)
    day.run(
      id,
      new Date(now - ago * 86_400_000).toISOString().slice(0, 10),
      used_bytes + (10 - ago) * 10 * MIB - 100 * MIB,
    );
  db.close();
  for (const _start of [1, 2]) {
    await startAgain(0);
    const shown = space('small');
    expect(shown.growth_bytes_per_day).toBe(10 * MIB);
    const days = (Date.parse(shown.full_at ?? '') - now) / 86_400_000;
    expect(days).toBeGreaterThan(3);
    expect(days).toBeLessThan(7);
    expect(appliance.ctl('repository', 'list').stdout).toContain(shown.full_at?.slice(0, 10));
    await operator.idle();
    await operator.idle();
    expect(operator.events('repository.filling')).toHaveLength(1);
    await appliance.stop();
  }
  await startAgain(0);
});
