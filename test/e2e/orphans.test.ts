import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { FuseSource } from '../support/fuse-source.ts';
import { bytesOf, sh } from '../support/guest-disk.ts';
import { expectFailure, Operator } from '../support/operator.ts';

const MIB = 1024 * 1024;
const settings = ['exports.backend=storage-daemon', 'verify.scrub_percent_per_day=0'];

interface Orphans {
  plan: string;
  total_bytes: number;
  busy_machines: string[];
  orphans: { path: string; kind: string; bytes: number; keep: string | null }[];
}

const uuidOf = (appliance: TestAppliance, vm: string) =>
  appliance.json<{ vm_uuid: string }>('vm', 'show', vm).vm_uuid;

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
    const first = new Operator(appliance).backUp('m').backup_id;
    writeFileSync(at('m'), bytesOf('changed', 70_000), { flag: 'r+' });
    ids = [first, new Operator(appliance).backUp('m').backup_id];
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
    expectFailure(
      appliance.ctl('repository', 'orphans', 'local', '--remove', '0'.repeat(12), '--yes'),
      'ORPHANS_CHANGED',
      13,
    );
    writeFileSync(join(disk, 'full-20200101-000002.qcow2'), 'more', { flag: 'a' });
    expectFailure(
      appliance.ctl('repository', 'orphans', 'local', '--remove', found.plan, '--yes'),
      'ORPHANS_CHANGED',
      13,
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
    new Operator(appliance).expectRestored(ids[1] ?? '', 0, at('m'));
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
    new Operator(appliance).expectRestored(ids[1] ?? '', 0, at('m'));
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
