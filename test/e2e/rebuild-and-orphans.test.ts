import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { FuseSource } from '../support/fuse-source.ts';
import { bytesOf, sh } from '../support/guest-disk.ts';

const MIB = 1024 * 1024;
const settings = ['exports.backend=storage-daemon', 'verify.scrub_percent_per_day=0'];

interface Shown {
  backup_id: string;
  vm_name: string;
  damaged: boolean;
  consistency: string;
  verified_ok: boolean | null;
  repository: string;
  disks: { layer: string; damage: string | null }[];
}
interface Rebuilt {
  warnings: string[];
  result: {
    machines: number;
    added: number;
    updated: number;
    removed: number;
    clashes: number;
    unreadable: number;
    names: Record<string, string[]>;
  };
}
interface Orphans {
  plan: string;
  total_bytes: number;
  busy_machines: string[];
  orphans: { path: string; kind: string; bytes: number; keep: string | null }[];
}

const backUp = (appliance: TestAppliance, vm: string, type = 'incremental', ...more: string[]) =>
  appliance.json<Shown>('backup', 'start', '--vm', vm, '--type', type, '--wait', ...more);
const list = (appliance: TestAppliance) =>
  appliance.json<{ backups: Shown[] }>('backup', 'list', '--status', 'completed').backups;
const uuidOf = (appliance: TestAppliance, vm: string) =>
  appliance.json<{ vm_uuid: string }>('vm', 'show', vm).vm_uuid;
const expectRefused = (appliance: TestAppliance, code: string, exit: number, ...args: string[]) => {
  const result = appliance.ctl(...args);
  expect(result.stderr).toContain(`(${code})`);
  expect(result.code).toBe(exit);
};
function expectRestored(appliance: TestAppliance, id: string, original: string): void {
  const output = `${original}.restored`;
  appliance.json('restore', 'disk', '--backup-id', id, '--output', output, '--force');
  sh('cmp', output, original);
  rmSync(output);
}

describe('rebuild and attach', () => {
  const work = mkdtempSync(join(tmpdir(), 'sd-rebuild-'));
  const one = new TestAppliance();
  const other = new TestAppliance();
  const at = (name: string) => join(work, name);
  const ids: string[] = [];
  const backups = join(one.home, 'backups');
  const manifest = (id: string) => join(backups, uuidOf(one, 'm'), 'backups', `${id}.json`);
  const rebuild = () => one.json<Rebuilt>('repository', 'rebuild', 'local');

  beforeAll(async () => {
    writeFileSync(at('m'), bytesOf('m', 3 * MIB));
    await one.start(settings);
    await other.start(settings);
    one.json('vm', 'add', 'm', '--disk', at('m'));
    for (const round of [0, 1, 2]) {
      writeFileSync(at('m'), bytesOf(`round ${round}`, 70_000), { flag: 'r+' });
      ids.push(backUp(one, 'm').backup_id);
      cpSync(at('m'), at(`m.${round}`));
    }
    one.json('verify', 'vm', 'm', '--wait');
  });
  afterAll(async () => {
    await one.dispose();
    await other.dispose();
    rmSync(work, { recursive: true, force: true });
  });

  it('finds no difference when there is none', () => {
    const before = list(one);
    expect(rebuild()).toMatchObject({
      warnings: [],
      result: { machines: 1, added: 0, updated: 0, removed: 0, clashes: 0, unreadable: 0 },
    });
    expect(list(one)).toEqual(before);
  });

  it('attaches a copy on another appliance, with verdicts, and refuses one that is listed already', () => {
    cpSync(backups, at('copy'), { recursive: true, preserveTimestamps: true });
    expectRefused(one, 'REPOSITORY_IS_COPY', 13, 'repository', 'attach', 'copy', '--path', at('copy'));
    writeFileSync(at('n'), bytesOf('n', MIB));
    // the name is taken here
    other.json('vm', 'add', 'm', '--disk', at('n'));
    const attached = other.json('repository', 'attach', 'copy', '--path', at('copy'));
    expect(attached).toMatchObject({ name: 'copy', path: at('copy'), machines: 1, backups: 3 });
    const uuid = uuidOf(one, 'm');
    const name = `m-${uuid.slice(0, 8)}`;
    expect(other.json('vm', 'show', name)).toMatchObject({ registered: false, vm_uuid: uuid });
    expect(
      list(other).map(({ backup_id, verified_ok, repository }) => [backup_id, verified_ok, repository]),
    ).toEqual(ids.toReversed().map((id) => [id, true, 'copy']));
    for (const [index, id] of ids.entries()) expectRestored(other, id, at(`m.${index}`));
    expect(other.json<Rebuilt>('repository', 'rebuild', 'copy').result).toMatchObject({
      updated: 0,
      removed: 0,
    });
  });

  it('knows a repository that moved while it was away', async () => {
    expectRefused(other, 'REPOSITORY_IS_COPY', 13, 'repository', 'attach', 'twice', '--path', at('copy'));
    await other.stop();
    renameSync(at('copy'), at('moved'));
    await other.start(settings);
    expectRefused(other, 'REPOSITORY_IS_COPY', 13, 'repository', 'attach', 'twice', '--path', at('moved'));
    expect(other.json('repository', 'attach', 'copy', '--path', at('moved'))).toMatchObject({ backups: 3 });
    expectRestored(other, ids[2] ?? '', at('m.2'));
  });

  it('attaches nothing that is no repository, and makes none', () => {
    mkdirSync(at('empty'));
    for (const path of [at('empty'), at('nowhere'), at('n')])
      expectRefused(other, 'REPOSITORY_UNAVAILABLE', 21, 'repository', 'attach', 'x', '--path', path);
    expect(readdirSync(at('empty'))).toEqual([]);
    expect(existsSync(at('nowhere'))).toBe(false);
    mkdirSync(at('newer'));
    const id = '70850b8f-2042-413e-978a-25a6b54878c7';
    const document = { format: 9, repository_id: id, created_at: '2026-11-20T22:00:00.000Z' };
    writeFileSync(join(at('newer'), 'repository.json'), JSON.stringify(document));
    expectRefused(other, 'FORMAT_TOO_NEW', 20, 'repository', 'attach', 'x', '--path', at('newer'));
    expectRefused(other, 'REPOSITORY_UNKNOWN', 10, 'repository', 'rebuild', 'x');
  });

  it('adds a machine that was copied in while the daemon ran', () => {
    backUp(other, 'm', 'full');
    const uuid = uuidOf(other, 'm');
    cpSync(join(other.home, 'backups', uuid), join(backups, uuid), { recursive: true });
    const { result } = rebuild();
    expect(result).toMatchObject({ machines: 2, added: 1, updated: 0, removed: 0 });
    const added = list(one).find((backup) => backup.backup_id === result.names['added']?.[0]);
    expect(added?.vm_name).toBe('m');
    expectRestored(one, added?.backup_id ?? '', at('n'));
    rmSync(join(backups, uuid), { recursive: true });
    const again = rebuild();
    expect(again.result).toMatchObject({ machines: 1, removed: 1, names: { removed: [added?.backup_id] } });
  });

  it('updates what the files say otherwise, and what they say is damaged', () => {
    const [first = '', middle = '', last = ''] = ids;
    const document = JSON.parse(readFileSync(manifest(last), 'utf8')) as object;
    writeFileSync(manifest(last), JSON.stringify({ ...document, consistency: 'application' }));
    expect(rebuild().result).toMatchObject({ added: 0, updated: 1, removed: 0, names: { updated: [last] } });
    expect(one.json<Shown>('backup', 'show', last).consistency).toBe('application');

    const layer = sh('find', backups, '-name', list(one)[1]?.disks[0]?.layer ?? '').trim();
    renameSync(layer, `${layer}.away`);
    expect(new Set(rebuild().result.names['updated'])).toEqual(new Set([middle, last]));
    expect(list(one).map(({ damaged }) => damaged)).toEqual([true, true, false]);
    renameSync(`${layer}.away`, layer);
    expect(rebuild().result).toMatchObject({ updated: 2 });
    expect(list(one).map(({ damaged }) => damaged)).toEqual([false, false, false]);
    for (const [index, id] of [first, middle, last].entries()) expectRestored(one, id, at(`m.${index}`));
  });

  it('removes rows only when the manifest is gone, not when it cannot be read', () => {
    const last = ids[2] ?? '';
    const content = readFileSync(manifest(last));
    truncateSync(manifest(last), 10);
    const unreadable = rebuild();
    expect(unreadable.result).toMatchObject({ removed: 0, unreadable: 1 });
    expect(unreadable.warnings.join()).toContain('cannot be read');
    expect(list(one)).toHaveLength(3);
    rmSync(manifest(last));
    const gone = rebuild();
    expect(gone.result).toMatchObject({ removed: 1, names: { removed: [last] } });
    expect(gone.warnings.join()).toContain('1 backups were removed from the catalogue');
    expect(list(one)).toHaveLength(2);
    writeFileSync(manifest(last), content);
    expect(rebuild().result).toMatchObject({ added: 1, names: { added: [last] } });
    expectRestored(one, last, at('m.2'));

    const description = join(backups, uuidOf(one, 'm'), 'vm.json');
    renameSync(description, `${description}.away`);
    expect(rebuild().result).toMatchObject({ removed: 0, unreadable: 1 });
    renameSync(`${description}.away`, description);
    expect(list(one)).toHaveLength(3);
  });
});

describe('orphans', () => {
  const work = mkdtempSync(join(tmpdir(), 'sd-orphans-'));
  const appliance = new TestAppliance();
  const at = (name: string) => join(work, name);
  const root = join(appliance.home, 'backups');
  const slow = new FuseSource(at('slow'), at('slow.shown'), { bytesPerSecond: 8 * MIB });
  const orphans = () => appliance.json<Orphans>('repository', 'orphans', 'local');
  const remove = (plan: string) => appliance.ctl('repository', 'orphans', 'local', '--remove', plan, '--yes');
  const filesOf = () =>
    sh('find', root, '-mindepth', '1', '-printf', '%P\\n').split('\n').filter(Boolean).toSorted();
  let machine = '';
  let ids: string[] = [];
  let clean: string[] = [];

  beforeAll(async () => {
    writeFileSync(at('m'), bytesOf('m', 2 * MIB));
    await appliance.start(settings);
    appliance.json('vm', 'add', 'm', '--disk', at('m'));
    const first = backUp(appliance, 'm').backup_id;
    writeFileSync(at('m'), bytesOf('changed', 70_000), { flag: 'r+' });
    ids = [first, backUp(appliance, 'm').backup_id];
    machine = join(root, uuidOf(appliance, 'm'));
    clean = filesOf();
  });
  afterAll(async () => {
    await appliance.dispose();
    await slow.stop();
    rmSync(work, { recursive: true, force: true });
  });

  it('are none in a repository that nobody harmed', () => {
    expect(orphans()).toMatchObject({ orphans: [], total_bytes: 0, busy_machines: [] });
  });

  it('are listed with their kinds, and exactly those that may go are removed', () => {
    const disk = join(machine, 'disk-0');
    const planted: [string, string, number, boolean][] = [
      ['disk-0/full-20200101-000000.qcow2.partial', 'partial', 10, true],
      ['disk-0/full-20200101-000000.blocks.json.zst.partial', 'partial', 11, true],
      ['disk-0/full-20200101-000000.written', 'partial', 12, true],
      ['disk-0/full-20200101-000001.json.tmp', 'temporary', 13, true],
      ['disk-0/full-20200101-000002.qcow2', 'layer', 14, true],
      ['disk-0/incr-20200101-000003-2.json', 'sidecar', 15, true],
      ['disk-0/incr-20200101-000004.blocks.json.zst', 'rows', 16, true],
      ['disk-0/merge.json.tmp', 'temporary', 17, true],
      ['disk-0/notes.txt', 'unknown', 18, false],
      ['backups/backup-m-20200101000000.json.tmp', 'temporary', 19, true],
      ['backups/readme', 'unknown', 20, false],
      ['other', 'unknown', 21, false],
    ];
    for (const [path, , size] of planted) writeFileSync(join(machine, path), Buffer.alloc(size));
    mkdirSync(join(machine, 'disk-7'));
    mkdirSync(join(root, '11111111-2222-4333-8444-555555555555'));
    writeFileSync(join(root, 'repository.json.tmp'), 'x');
    // what a symlink shows is not ours, whatever it looks like
    mkdirSync(at('outside'));
    for (const name of ['a.tmp', 'full-20200101-000000.qcow2'])
      writeFileSync(join(at('outside'), name), 'keep');
    symlinkSync(at('outside'), join(root, '11111111-2222-4333-8444-666666666666'));
    symlinkSync(at('outside'), join(machine, 'disk-8'));
    symlinkSync('/etc/passwd', join(disk, 'incr-20200101-000009.qcow2'));
    // wished to stay, and not a layer's
    writeFileSync(join(machine, 'backups', `${ids[0]}.pins`), '{}');
    const found = orphans();
    const vm = machine.slice(root.length + 1);
    const byPath = new Map(found.orphans.map((orphan) => [orphan.path, orphan]));
    for (const [path, kind, bytes, mayGo] of planted)
      expect(byPath.get(`${vm}/${path}`)).toMatchObject({
        kind,
        bytes,
        keep: mayGo ? null : 'it is not ours',
      });
    expect(byPath.get(`${vm}/disk-7`)).toMatchObject({ kind: 'empty folder', keep: null });
    expect(byPath.get('11111111-2222-4333-8444-555555555555')).toMatchObject({
      kind: 'empty folder',
      keep: null,
    });
    expect(byPath.get('repository.json.tmp')).toMatchObject({ kind: 'temporary' });
    expect(byPath.get('11111111-2222-4333-8444-666666666666')).toMatchObject({
      kind: 'unknown',
      keep: 'it is not ours',
    });
    expect(byPath.get(`${vm}/disk-0/incr-20200101-000009.qcow2`)).toMatchObject({ kind: 'unknown' });
    expect(found.orphans).toHaveLength(planted.length + 6);
    expect(found.total_bytes).toBe(10 + 11 + 12 + 13 + 14 + 15 + 16 + 17 + 19 + 1);

    const before = filesOf();
    // not without the plan, not without --yes, and not when something changed since
    expect(appliance.ctl('repository', 'orphans', 'local', '--remove', 'all', '--yes').code).toBe(2);
    expect(appliance.ctl('repository', 'orphans', 'local', '--remove', found.plan).stderr).toContain('--yes');
    expectRefused(
      appliance,
      'ORPHANS_CHANGED',
      13,
      'repository',
      'orphans',
      'local',
      '--remove',
      '0'.repeat(12),
      '--yes',
    );
    writeFileSync(join(disk, 'full-20200101-000002.qcow2'), 'more', { flag: 'a' });
    expectRefused(
      appliance,
      'ORPHANS_CHANGED',
      13,
      'repository',
      'orphans',
      'local',
      '--remove',
      found.plan,
      '--yes',
    );
    expect(filesOf()).toEqual(before);

    expect(remove(orphans().plan)).toMatchObject({ code: 0 });
    const stays = [
      'disk-8',
      'disk-0/notes.txt',
      'backups/readme',
      'other',
      `backups/${ids[0]}.pins`,
      'disk-0/incr-20200101-000009.qcow2',
    ];
    expect(filesOf()).toEqual(
      [...clean, ...stays.map((path) => `${vm}/${path}`), '11111111-2222-4333-8444-666666666666'].toSorted(),
    );
    for (const path of stays) rmSync(join(machine, path));
    rmSync(join(root, '11111111-2222-4333-8444-666666666666'));
    expect(readdirSync(at('outside'))).toHaveLength(2);
    expect(appliance.json<{ result: { bad: number } }>('verify', 'vm', 'm', '--wait').result.bad).toBe(0);
    expectRestored(appliance, ids[1] ?? '', at('m'));
  });

  it('are not the layers of a backup whose manifest cannot be read', () => {
    const manifest = join(machine, 'backups', `${ids[1]}.json`);
    const content = readFileSync(manifest);
    writeFileSync(manifest, content.subarray(0, 20));
    const found = orphans();
    expect(found.orphans.map(({ kind, keep }) => [kind, keep !== null])).toEqual([
      ['unreadable', true],
      ['rows', true],
      ['sidecar', true],
      ['layer', true],
    ]);
    expect(remove(found.plan).code).toBe(0);
    writeFileSync(manifest, content);
    expect(filesOf()).toEqual(clean);
    expectRestored(appliance, ids[1] ?? '', at('m'));
  });

  it('are layers without a manifest, but never what a tombstone, a journal or a child names', () => {
    const manifest = join(machine, 'backups', `${ids[0]}.json`);
    const content = readFileSync(manifest);
    rmSync(manifest);
    // its layer is still the parent of the other
    expect(orphans().orphans).toEqual([]);
    const child = join(machine, 'backups', `${ids[1]}.json`);
    const childContent = readFileSync(child);
    rmSync(child);
    expect(
      orphans()
        .orphans.map(({ kind }) => kind)
        .toSorted(),
    ).toEqual(['layer', 'layer', 'rows', 'rows', 'sidecar', 'sidecar'].toSorted());
    writeFileSync(child.replace(/json$/, 'deleted'), childContent);
    expect(orphans().orphans).toEqual([]);
    rmSync(child.replace(/json$/, 'deleted'));
    const [layer = ''] = readdirSync(join(machine, 'disk-0')).filter((name) => /^incr.*qcow2$/.test(name));
    writeFileSync(join(machine, 'disk-0', 'merge.json'), JSON.stringify({ any: { form: [layer] } }));
    expect(orphans().orphans).toEqual([]);
    rmSync(join(machine, 'disk-0', 'merge.json'));
    writeFileSync(child, childContent);
    writeFileSync(manifest, content);
    expect(filesOf()).toEqual(clean);
  });

  it('are not looked for where a backup runs', async () => {
    writeFileSync(at('slow'), bytesOf('slow', 16 * MIB));
    await slow.start();
    appliance.json('vm', 'add', 's', '--disk', slow.path);
    const started = appliance.json<{ job_id: string }>('backup', 'start', '--vm', 's');
    const partial = () => filesOf().some((name) => name.endsWith('.partial'));
    for (let round = 0; round < 400 && !partial(); round += 1) await sleep(25);
    slow.pause();
    const found = orphans();
    expect(found).toMatchObject({ orphans: [], busy_machines: ['s'] });
    const written = filesOf().filter((name) => name.endsWith('.partial'));
    expect(written.length).toBeGreaterThan(0);
    expect(remove(found.plan).code).toBe(0);
    expect(filesOf().filter((name) => name.endsWith('.partial'))).toEqual(written);
    slow.resume();
    expect(appliance.ctl('job', 'watch', started.job_id).code).toBe(0);
    expect(orphans()).toMatchObject({ orphans: [], busy_machines: [] });
    expect(statSync(machine).isDirectory()).toBe(true);
  });
});
