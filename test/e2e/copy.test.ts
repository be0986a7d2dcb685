import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { bytesOf, sh } from '../support/guest-disk.ts';
import { LoopFolder } from '../support/loop-folder.ts';
import { expectFailure, Operator, type ShownBackup, type ShownJob, until } from '../support/operator.ts';
import { RandomDisk } from '../support/random-disk.ts';

const MIB = 1024 * 1024;
let work: string;
let appliance: TestAppliance;
let operator: Operator;
let disk: RandomDisk;

const settings = ['exports.backend=storage-daemon', 'chain.consolidate=false', 'repository.poll_s=1'];
beforeEach(async () => {
  work = mkdtempSync(join(tmpdir(), 'sd-copy-'));
  appliance = new TestAppliance();
  operator = new Operator(appliance);
  disk = new RandomDisk(join(work, 'disk'), 24);
  await appliance.start(settings);
  appliance.json('vm', 'add', 'm', '--disk', disk.path);
  appliance.json('repository', 'add', 'usb', '--path', join(work, 'usb'));
});
afterEach(async () => {
  await appliance.dispose();
  rmSync(work, { recursive: true, force: true });
});

interface Copied extends ShownJob {
  result: { copied: string[]; skipped: string[]; failed: string[]; bytes: number };
}
interface Shown extends ShownBackup {
  copied_from: string | null;
  created_at: string;
}
const copy = (...args: string[]) => appliance.json<Copied>('backup', 'copy', ...args, '--wait').result;
const show = (id: string) => appliance.json<Shown>('backup', 'show', id);
/** A restore point and a copy of the disk at that moment. */
function point(type = 'incremental', ...more: string[]): string {
  disk.write(4);
  const { backup_id } = operator.backUp('m', type, ...more);
  copyFileSync(disk.path, join(work, backup_id));
  return backup_id;
}
/** The copy shows what its original showed. */
function expectAlike(copies: readonly string[]): void {
  for (const id of copies) {
    const { copied_from } = show(id);
    operator.expectRestored(id, 0, join(work, copied_from ?? ''));
  }
}
const layersIn = (root: string): string[] =>
  readdirSync(root, { recursive: true })
    .map(String)
    .filter((name) => /disk-\d+\/./.test(name));
const typesOf = (ids: readonly string[]) => ids.map((id) => show(id).disks[0]?.backup_type);

it('copies a machine layer by layer, and later only what is new', () => {
  const points = [point('full'), point(), point('differential'), point()];
  const first = copy('--vm', 'm', '--to', 'usb');
  expect(first).toMatchObject({ skipped: [], failed: [] });
  expect(first.copied.map((id) => show(id).copied_from)).toEqual(points);
  expect(typesOf(first.copied)).toEqual(['full', 'incremental', 'differential', 'incremental']);
  expectAlike(first.copied);
  // the files are the same, byte for byte
  const [vm = ''] = readdirSync(join(work, 'usb')).filter((name) => name.length === 36);
  for (const name of layersIn(join(work, 'usb')).filter((file) => file.endsWith('.qcow2')))
    sh('cmp', join(work, 'usb', name), join(appliance.home, 'backups', name));
  expect(vm).not.toBe('');

  expect(copy('--vm', 'm', '--to', 'usb')).toMatchObject({ copied: [], bytes: 0 });
  const next = point();
  expect(copy('--all', '--to', 'usb').copied.map((id) => show(id).copied_from)).toEqual([next]);
  expect(copy(next, '--to', 'usb')).toMatchObject({ copied: [], skipped: [next] });
  expect(layersIn(join(work, 'usb'))).toHaveLength(15);

  // the original is what an id and latest mean
  expect(show('latest:m').backup_id).toBe(next);
  const others = points.filter((id) => id !== next);
  let prefix = next;
  while (!others.some((id) => id.startsWith(prefix.slice(0, -1)))) prefix = prefix.slice(0, -1);
  expect(show(prefix).backup_id).toBe(next);
  // retention is the target's own, and what it removed does not come back by itself
  const [oldest = ''] = first.copied;
  appliance.json('backup', 'delete', oldest, '--merge');
  expect(copy('--vm', 'm', '--to', 'usb').copied).toEqual([]);
  appliance.json('backup', 'consolidate', '--vm', 'm', '--repository', 'usb', '--wait');
  expectAlike(first.copied.slice(1));
  operator.expectRestored(points[0] ?? '', 0, join(work, points[0] ?? ''));
  expect(copy('--vm', 'm', '--missing', '--to', 'usb').copied).toEqual([oldest]);
  expectAlike([oldest]);
});

it('begins a new chain where the parent is not there', () => {
  point('full');
  const second = point();
  const third = point();
  const alone = copy(third, '--to', 'usb').copied;
  expect(typesOf(alone)).toEqual(['full']);
  expectAlike(alone);
  const retired = copy(second, '--to', 'usb').copied;
  expect(typesOf(retired)).toEqual(['full']);
  const next = copy(point(), '--to', 'usb').copied;
  expect(typesOf(next)).toEqual(['incremental']);
  expectAlike([...retired, ...next]);
  // everything that a stranger with qemu-img needs is there
  const [name = ''] = layersIn(join(work, 'usb')).filter(
    (file) => file.includes('incr-') && file.endsWith('2'),
  );
  sh('qemu-img', 'compare', '-F', 'raw', join(work, 'usb', name), disk.path);
});

it('goes on beside the machine’s own backups there, in either order', () => {
  // both begin in the same second, so that their layers want the same name
  const own = [point('full', '--repository', 'usb'), point('incremental', '--repository', 'usb')];
  const points = [point('full'), point(), point()];
  const { copied } = copy('--vm', 'm', '--to', 'usb');
  expectAlike(copied);
  for (const id of own) operator.expectRestored(id, 0, join(work, id));
  // a backup there builds on the newest copy
  const next = point('incremental', '--repository', 'usb');
  expect(show(next).disks[0]).toMatchObject({
    backup_type: 'incremental',
    parent_layer: show(copied[2] ?? '').disks[0]?.layer,
  });
  operator.expectRestored(next, 0, join(work, next));
  // back again: the originals are there
  expect(copy('--vm', 'm', '--to', 'local').copied).toEqual(
    [...own, next].map((id) => expect.stringContaining(id)),
  );
  for (const id of points) operator.expectRestored(id, 0, join(work, id));
});

it('gives a layer another name when its own is taken, and its children the new one', () => {
  const full = point('full');
  const incremental = point();
  const [vm = ''] = readdirSync(join(appliance.home, 'backups')).filter((name) => name.length === 36);
  const folder = join(work, 'usb', vm, 'disk-0');
  sh('mkdir', '-p', folder);
  writeFileSync(join(folder, show(full).disks[0]?.layer ?? ''), 'somebody else');
  const { copied } = copy('--vm', 'm', '--to', 'usb');
  expect(show(copied[0] ?? '').disks[0]?.layer).toMatch(/-2\.qcow2$/);
  expect(show(copied[1] ?? '').disks[0]?.parent_layer).toMatch(/-2\.qcow2$/);
  expectAlike(copied);
  expect(show(copied[1] ?? '').copied_from).toBe(incremental);
});

it('outlives the catalogue, and is found by another appliance', async () => {
  const points = [point('full'), point()];
  const { copied } = copy('--vm', 'm', '--to', 'usb');
  appliance.json('repository', 'remove', 'usb', '--keep-backups');
  const other = new TestAppliance();
  try {
    await other.start();
    other.json('repository', 'add', 'usb', '--path', join(work, 'usb'));
    const found = other.json<{ backups: Shown[] }>('backup', 'list').backups;
    expect(found.map(({ copied_from }) => copied_from).toReversed()).toEqual(points);
    expect(other.json<Shown>('backup', 'show', 'latest:m').backup_id).toBe(copied[1]);
    new Operator(other).expectRestored(copied[1] ?? '', 0, join(work, points[1] ?? ''));
  } finally {
    await other.dispose();
  }
  appliance.json('repository', 'add', 'usb', '--path', join(work, 'usb'));
  expect(copied.map((id) => show(id).copied_from)).toEqual(points);
});

it('refuses a damaged source, copies the others, and says so', () => {
  const points = [point('full'), point(), point('full')];
  const layer = show(points[1] ?? '').disks[0]?.layer ?? '';
  const [file = ''] = layersIn(join(appliance.home, 'backups')).filter((name) => name.endsWith(layer));
  // one bit of guest data, which qemu-img check does not see
  const path = join(appliance.home, 'backups', file);
  const bytes = readFileSync(path);
  bytes[bytes.length - 30_000] = (bytes[bytes.length - 30_000] ?? 0) ^ 1;
  writeFileSync(path, bytes);
  const result = appliance.ctl('backup', 'copy', '--vm', 'm', '--to', 'usb', '--wait');
  expectFailure(result, 'LAYER_CORRUPT', 20);
  expect(result.stderr).toContain(`${points[1]} was not copied`);
  const there = operator.backups().filter(({ repository }) => repository === 'usb');
  expect(there).toHaveLength(2);
  expectAlike(there.map(({ backup_id }) => backup_id));
  expect(layersIn(join(work, 'usb'))).toHaveLength(6);
});

it('fails before it writes when the target is too small, and leaves nothing of it', () => {
  const small = new LoopFolder(join(work, 'small'), 24);
  try {
    small.mount();
    appliance.json('repository', 'add', 'small', '--path', small.path);
    const only = point('full');
    expectFailure(appliance.ctl('backup', 'copy', only, '--to', 'small', '--wait'), 'REPOSITORY_FULL', 21);
    expect(layersIn(small.path)).toEqual([]);
    appliance.json('repository', 'detach', 'small');
  } finally {
    small.dispose();
  }
});

it('stops when it is cancelled, and keeps what was copied', async () => {
  writeFileSync(join(work, 'big'), bytesOf('big', 200 * MIB));
  appliance.json('vm', 'add', 'big', '--disk', join(work, 'big'));
  operator.backUp('big', 'full');
  operator.backUp('big', 'full');
  const { job_id } = appliance.json<{ job_id: string }>('backup', 'copy', '--vm', 'big', '--to', 'usb');
  await until('it runs', () => operator.job(job_id).status === 'running');
  appliance.ctl('job', 'cancel', job_id);
  // a fast machine may have been done before
  await until('it ended', () => ['cancelled', 'completed'].includes(operator.job(job_id).status));
  const names = layersIn(join(work, 'usb'));
  expect(names.filter((name) => /partial|tmp/.test(name))).toEqual([]);
  const there = operator.backups().filter(({ repository }) => repository === 'usb');
  expect(names).toHaveLength(there.length * 3);
  if (there.length < 2) expect(copy('--vm', 'big', '--to', 'usb').copied).toHaveLength(2 - there.length);
});

it.each([
  [['--to', 'usb'], 2],
  [['latest', '--vm', 'm', '--to', 'usb'], 2],
  [['--vm', 'm', '--to', 'nowhere'], 10],
  [['backup-none', '--to', 'usb'], 10],
  [['latest', '--to', 'local'], 2],
])('refuses %j', (args, code) => {
  operator.backUp('m');
  expect(appliance.ctl('backup', 'copy', ...args).code).toBe(code);
});

it('tells a copy that was brought back from the deleted one whose layer is still below', async () => {
  point('full');
  const middle = point();
  point();
  const copies = copy('--vm', 'm', '--to', 'usb').copied;
  const again = copies.find((id) => show(id).copied_from === middle) ?? '';
  appliance.json('backup', 'delete', again, '--merge');
  expect(copy('--vm', 'm', '--to', 'usb', '--missing').copied).toEqual([again]);
  const plan = appliance.json<{ backup_ids: string[] }>('backup', 'delete', again, '--dry-run');
  expect(plan.backup_ids).toEqual([again]);
  await appliance.stop();
  await appliance.start(settings);
  expect(operator.events('repository.adopted')).toEqual([]);
  appliance.json('backup', 'consolidate', '--vm', 'm', '--repository', 'usb', '--wait');
  expectAlike(copies);
  expect(layersIn(join(work, 'usb')).filter((name) => name.endsWith('.qcow2'))).toHaveLength(3);
});
