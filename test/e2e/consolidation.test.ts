import {
  closeSync,
  copyFileSync,
  mkdtempSync,
  openSync,
  readdirSync,
  rmSync,
  statSync,
  truncateSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { sh } from '../support/guest-disk.ts';
import { Operator } from '../support/operator.ts';
import { RandomDisk } from '../support/random-disk.ts';

let work: string;
let appliance: TestAppliance;
let operator: Operator;
let disk: RandomDisk;
let points: string[];

beforeEach(async () => {
  work = mkdtempSync(join(tmpdir(), 'sd-cons-'));
  appliance = new TestAppliance();
  operator = new Operator(appliance);
  disk = new RandomDisk(join(work, 'disk'), 24);
  points = [];
});
afterEach(async () => {
  await appliance.dispose();
  rmSync(work, { recursive: true, force: true });
});

const start = async (...settings: string[]) => {
  await appliance.start(['exports.backend=storage-daemon', ...settings]);
  appliance.json('vm', 'add', 'm', '--disk', disk.path);
};
/** A restore point and a copy of the disk at that moment. */
function point(type = 'incremental', change: number | (() => void) = 4): string {
  if (typeof change === 'function') change();
  else if (points.length > 0) disk.write(change);
  const { backup_id } = operator.backUp('m', type);
  copyFileSync(disk.path, join(work, backup_id));
  points.push(backup_id);
  return backup_id;
}
const layers = () => {
  const [chain] = appliance.json<{ chains: { total_layers: number; retired_layers: string[] }[] }>(
    'backup',
    'chain',
    '--vm',
    'm',
  ).chains;
  return chain;
};
function expectAllAlike(ids = points): void {
  for (const id of ids) operator.expectRestored(id, 0, join(work, id));
}
const drop = (id: string) => {
  points.splice(points.indexOf(id), 1);
  return appliance.json<{ backup_ids: string[] }>('backup', 'delete', id, '--merge');
};
const merge = (...more: string[]) =>
  appliance.json<{ result: { steps: number; postponed: string[] } }>(
    ...['backup', 'consolidate', '--vm', 'm', '--wait', ...more],
  ).result;

it('merges the oldest incremental into the full, and a run of layers in one step', async () => {
  await start('chain.consolidate=false');
  const [full = '', first = ''] = [point('full'), point(), point(), point()];
  drop(full);
  expect(layers()?.retired_layers).toHaveLength(1);
  const dry = appliance.json<{ steps: { operation: string }[] }>(
    'backup',
    'consolidate',
    '--vm',
    'm',
    '--dry-run',
  );
  expect(dry.steps.map(({ operation }) => operation)).toEqual(['commit']);
  expect(layers()?.retired_layers).toHaveLength(1);
  expectAllAlike(); // before, the deleted point's layer is still below
  expect(merge()).toMatchObject({ steps: 1, postponed: [] });
  expect(layers()).toMatchObject({ total_layers: 3, retired_layers: [] });
  expectAllAlike();
  drop(first);
  drop(points[0] ?? '');
  expect(merge()).toMatchObject({ steps: 1 });
  expect(layers()).toMatchObject({ total_layers: 1 });
  expectAllAlike();
  point();
  expectAllAlike();
});

it('drops a middle layer whichever of its neighbours is smaller', async () => {
  await start('chain.consolidate=false');
  point('full');
  const small = point('incremental', 1);
  point('incremental', 40);
  const big = point('incremental', 40);
  point('incremental', 1);
  drop(small);
  drop(big);
  expect(merge()).toMatchObject({ steps: 2, postponed: [] });
  expect(layers()).toMatchObject({ total_layers: 3, retired_layers: [] });
  expectAllAlike();
});

it('keeps a layer that several restore points need, and merges it when only one is left', async () => {
  await start('chain.consolidate=false');
  const full = point('full');
  const first = point('differential');
  point('differential');
  drop(full);
  expect(merge()).toMatchObject({ steps: 0, postponed: [] });
  expectAllAlike();
  drop(first);
  expect(merge()).toMatchObject({ steps: 1 });
  expectAllAlike();
});

it('waits for a mount, or writes a new full beside the files', async () => {
  await start('chain.consolidate=false');
  sh('mkfs.ext4', '-q', '-F', disk.path);
  const addFile = () =>
    sh('debugfs', '-w', '-R', `write ${fileURLToPath(import.meta.url)} file${points.length}`, disk.path);
  const full = point('full', addFile);
  const first = point('incremental', addFile);
  point('incremental', addFile);
  appliance.json('backup', 'mount', '--backup-id', first);
  drop(full);
  const { steps, postponed } = merge();
  expect({ steps, postponed: postponed.length }).toEqual({ steps: 0, postponed: 1 });
  expect(postponed[0]).toContain('a mount');
  expect(merge('--beside')).toMatchObject({ steps: 1, postponed: [] });
  expectAllAlike();
  for (const { mount_id } of appliance.json<{ mounts: { mount_id: string }[] }>('mount', 'list').mounts)
    appliance.json('mount', 'remove', mount_id);
  merge();
  expect(layers()).toMatchObject({ total_layers: 2, retired_layers: [] });
  expectAllAlike();
});

it('shortens a long chain by itself with a full made from the chain', async () => {
  await start('chain.max_depth=4');
  point('full');
  for (let count = 0; count < 6; count += 1) point();
  await operator.idle();
  const { chains } = appliance.json<{
    chains: { total_layers: number; latest_backup_id: string }[];
  }>('backup', 'chain', '--vm', 'm');
  // the chain that grows is short; an older one may have got longer before its turn came, and grows no more
  const growing = chains.find(({ latest_backup_id }) => latest_backup_id === points.at(-1));
  expect(growing?.total_layers).toBeLessThanOrEqual(4);
  expect(chains.length).toBeGreaterThan(1);
  // none of them came from the source a second time
  expect(operator.backups().flatMap(({ disks }) => disks.filter(({ reason }) => reason !== null))).toEqual(
    [],
  );
  expectAllAlike();
});

it('makes a synthetic full without touching the source', async () => {
  await start('chain.consolidate=false');
  point('full');
  point();
  const newest = point();
  rmSync(disk.path);
  expect(merge('--full')).toMatchObject({ steps: 1 });
  const [shown] = operator.backups();
  expect(shown).toMatchObject({ backup_id: newest, disks: [{ backup_type: 'full', parent_layer: null }] });
  expectAllAlike();
});

it('leaves nothing behind that is not needed', async () => {
  await start();
  const full = point('full');
  point();
  drop(full);
  await operator.idle();
  const [vm = ''] = readdirSync(join(appliance.home, 'backups')).filter((name) => name.length === 36);
  const folder = join(appliance.home, 'backups', vm);
  expect(readdirSync(join(folder, 'backups'))).toHaveLength(1);
  expect(readdirSync(join(folder, 'disk-0'))).toHaveLength(3);
  expectAllAlike();
});

it('compresses layers after they were sealed; they stay plain qcow2', async () => {
  await start();
  appliance.json('repository', 'set', 'local', '--compression', 'zstd');
  const text = () => {
    const handle = openSync(disk.path, 'r+');
    writeSync(
      handle,
      Buffer.alloc(6 * 1024 * 1024, `line ${points.length}: all work and no play\n`),
      0,
      6 * 1024 * 1024,
      0,
    );
    closeSync(handle);
  };
  for (let count = 0; count < 3; count += 1) {
    point('incremental', text);
    disk.write(2);
    await operator.idle();
  }
  for (const { disks } of operator.backups()) expect(disks[0]?.file_bytes).toBeLessThan(6 * 1024 * 1024);
  const files = sh('find', join(appliance.home, 'backups'), '-name', '*.qcow2').trim().split('\n');
  expect(files).toHaveLength(3);
  for (const file of files) {
    expect(sh('qemu-img', 'info', file)).toContain('compression type: zstd');
    sh('qemu-img', 'check', '-q', file);
  }
  expectAllAlike();
  drop(points[0] ?? '');
  await operator.idle();
  point();
  await operator.idle();
  expectAllAlike();
  expect(appliance.ctl('repository', 'set', 'local', '--compression', 'lzma').code).toBe(2);
});

it('never puts a differential on a layer that has taken in a part of a newer one', async () => {
  await start('chain.consolidate=false');
  const full = point('full');
  const first = point('incremental', 60);
  drop(full);
  const { job_id } = appliance.json<{ job_id: string }>('backup', 'consolidate', '--vm', 'm', '--rate', '1');
  await sleep(1_500); // a good part of the newer one is in the full by now
  // the disk is again what the deleted full was, and the merge gives way to its backup
  copyFileSync(join(work, full), disk.path);
  truncateSync(disk.path, statSync(join(work, first)).size);
  point('differential', () => undefined);
  expect(operator.job(job_id).status).toBe('completed');
  expect(layers()?.retired_layers).toHaveLength(1);
  expectAllAlike();
  merge();
  expectAllAlike();
});

it.each(['stream', 'commit'])(
  'finds a layer that was cut off after a merge by %s into it was interrupted',
  async (way) => {
    await start('chain.consolidate=false');
    const full = point('full');
    const middle = point('incremental', 40);
    const newest = point('incremental', way === 'stream' ? 80 : 30);
    drop(middle);
    if (way === 'commit') drop(full);
    const dry = appliance.json<{ steps: { operation: string; layer: string; vanishing: string[] }[] }>(
      ...['backup', 'consolidate', '--vm', 'm', '--dry-run'],
    );
    expect(dry.steps.map(({ operation }) => operation)).toEqual([way]);
    const [step] = dry.steps;
    const { job_id } = appliance.json<{ job_id: string }>(
      'backup',
      'consolidate',
      '--vm',
      'm',
      '--rate',
      '1',
    );
    await sleep(1_500);
    appliance.json('job', 'cancel', job_id);
    await operator.idle();
    expectAllAlike();
    const changed = way === 'stream' ? step?.layer : step?.vanishing.at(-1);
    const file = sh('find', join(appliance.home, 'backups'), '-name', changed ?? '').trim();
    truncateSync(file, statSync(file).size - 65_536);
    const refused = appliance.ctl('restore', 'disk', '--backup-id', newest, '--output', join(work, 'out'));
    expect(refused.code).toBe(20);
    expect(refused.stderr).toContain('LAYER_CORRUPT');
  },
);
