import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { Operator } from '../support/operator.ts';
import { RandomDisk } from '../support/random-disk.ts';

const steps = [
  'layer-created',
  'layer-verified',
  'layer-named',
  'sidecar-written',
  'manifest-written',
  'catalogued',
];
/** Each step before and after its effect; `:2` is the second restore point's, which stands on the first. */
const points = steps
  .flatMap((step) => [`intent:${step}`, `fact:${step}`])
  .concat(['fact:layer-verified:2', 'fact:layer-named:2', 'fact:manifest-written:2']);

describe('a daemon killed while it copies', () => {
  const work = mkdtempSync(join(tmpdir(), 'sd-copycrash-'));
  const appliance = new TestAppliance();
  const operator = new Operator(appliance);
  const disk = new RandomDisk(join(work, 'disk'), 6);
  const target = join(work, 'usb');
  const settings = ['exports.backend=storage-daemon', 'chain.consolidate=false'];

  beforeAll(async () => {
    await appliance.start(settings);
    appliance.json('vm', 'add', 'm', '--disk', disk.path);
    appliance.json('repository', 'add', 'usb', '--path', target);
    for (const type of ['full', 'incremental']) {
      disk.write(3);
      copyFileSync(disk.path, join(work, operator.backUp('m', type).backup_id));
    }
  });
  afterAll(async () => {
    await appliance.dispose();
    rmSync(work, { recursive: true, force: true });
  });
  const copies = () => operator.backups().filter(({ repository }) => repository === 'usb');

  it.each(points)('at %s leaves whole copies and nothing half-done, and goes on', async (point) => {
    await appliance.stop();
    await appliance.start(settings, { SENDENSE_CRASH_AT: point });
    appliance.ctl('backup', 'copy', '--vm', 'm', '--to', 'usb', '--wait');
    await appliance.ended(); // it must have died by its own hand

    await appliance.start(settings);
    const { jobs } = appliance.json<{ jobs: { status: string; kind: string }[] }>('job', 'list');
    expect(jobs[0]).toMatchObject({ kind: 'copy', status: 'failed' });
    const files = readdirSync(target, { recursive: true }).map(String);
    expect(files.filter((name) => /\.(partial|written|tmp)$/.test(name))).toEqual([]);
    const manifests = files
      .filter((name) => /\/backups\/.*\.json$/.test(name))
      .map((name) => JSON.parse(readFileSync(join(target, name), 'utf8')) as { backup_id: string });
    const ids = copies().map(({ backup_id }) => backup_id);
    expect(ids.toSorted()).toEqual(manifests.map(({ backup_id }) => backup_id).toSorted());
    expect(files.filter((name) => /\/disk-\d+\/./.test(name))).toHaveLength(3 * ids.length);

    appliance.json('backup', 'copy', '--vm', 'm', '--to', 'usb', '--wait');
    expect(copies().map(({ disks }) => disks[0]?.backup_type)).toEqual(['incremental', 'full']);
    for (const { backup_id } of copies())
      operator.expectRestored(backup_id, 0, join(work, backup_id.replace(/\.\w{8}$/, '')));
    for (const { backup_id } of copies()) appliance.json('backup', 'delete', backup_id);
    expect(
      readdirSync(target, { recursive: true }).filter((name) => /disk-\d+\/./.test(String(name))),
    ).toEqual([]);
  });
});
