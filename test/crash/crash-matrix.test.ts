import {
  copyFileSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { bytesOf } from '../support/guest-disk.ts';
import { Operator } from '../support/operator.ts';

const MIB = 1024 * 1024;
const steps = [
  'before-hook',
  'layer-created',
  'export-opened',
  'transferred',
  'export-closed',
  'after-hook',
  'layer-sealed',
  'layer-named',
  'sidecar-written',
  'manifest-written',
  'catalogued',
];
/** Each step before and after its effect; `:2` is the second disk's. */
const points = steps
  .flatMap((step) => [`intent:${step}`, `fact:${step}`])
  .concat(['fact:layer-named:2', 'intent:sidecar-written:2', 'fact:transferred:2']);

describe('a daemon killed at any step', () => {
  const work = mkdtempSync(join(tmpdir(), 'sd-crash-'));
  const appliance = new TestAppliance();
  const operator = new Operator(appliance);
  const disk = (name: string) => join(work, name);
  const frozen = join(work, 'frozen');
  let first = '';

  beforeAll(async () => {
    writeFileSync(disk('a'), bytesOf('a', 4 * MIB));
    writeFileSync(disk('b'), bytesOf('b', 3 * MIB + 512));
    await appliance.start();
    appliance.json(
      'vm',
      'add',
      'm',
      '--disk',
      disk('a'),
      '--disk',
      disk('b'),
      '--before',
      `touch ${frozen}`,
      '--after',
      `rm -f ${frozen}`,
    );
    first = operator.backUp('m', 'full').backup_id;
    copyFileSync(disk('a'), disk('a.first'));
  });
  afterAll(async () => {
    await appliance.dispose();
    rmSync(work, { recursive: true, force: true });
  });

  it.each(points)('at %s leaves good restore points and nothing half-done', async (point) => {
    await appliance.stop();
    await appliance.start([], { SENDENSE_CRASH_AT: point });
    const content = readFileSync(disk('a'));
    bytesOf(point, 200_000).copy(content, 1 * MIB);
    writeFileSync(disk('a'), content);
    appliance.ctl('backup', 'start', '--vm', 'm', '--type', 'incremental', '--wait');
    await appliance.ended(); // it must have died by its own hand

    await appliance.start();
    expect(existsSync(frozen), 'the after command was not run').toBe(false);
    const jobs = appliance.json<{ jobs: { status: string; backup_id: string }[] }>('job', 'list').jobs;
    expect(jobs.filter((job) => job.status === 'running' || job.status === 'pending')).toEqual([]);
    const repository = join(appliance.home, 'backups');
    const files = readdirSync(repository, { recursive: true }).map(String);
    expect(files.filter((name) => /\.(partial|written|tmp|deleted)$/.test(name))).toEqual([]);
    // every file in a disk folder belongs to a manifest
    const manifests = files
      .filter((name) => /\/backups\/.*\.json$/.test(name))
      .map(
        (name) =>
          JSON.parse(readFileSync(join(repository, name), 'utf8')) as {
            backup_id: string;
            disks: { layer: string }[];
          },
      );
    const named = new Set(
      manifests.flatMap((manifest) => manifest.disks.map((entry) => entry.layer.replace('.qcow2', ''))),
    );
    const orphans = files
      .filter((name) => /\/disk-\d+\/./.test(name))
      .filter((name) => !named.has((name.split('/').at(-1) ?? '').split('.')[0] ?? ''));
    expect(orphans).toEqual([]);
    const listed = operator.backups('--status', 'completed').map((backup) => backup.backup_id);
    expect(listed.toSorted()).toEqual(manifests.map((manifest) => manifest.backup_id).toSorted());
    // from the manifest on the backup exists, before it does not
    const isPublished = point.includes('catalogued') || point === 'fact:manifest-written';
    expect(jobs[0]?.status).toBe(isPublished ? 'completed' : 'failed');

    // the next backup is an ordinary incremental, and old and new restore
    const next = operator.backUp('m');
    expect(next.disks.map((entry) => entry.backup_type)).toEqual(['incremental', 'incremental']);
    for (const [id, original] of [
      [first, 'a.first'],
      [next.backup_id, 'a'],
    ] as const) {
      operator.expectRestored(id, 0, disk(original));
    }
    appliance.json('backup', 'delete', next.backup_id);
    if (isPublished) appliance.json('backup', 'delete', jobs[0]?.backup_id ?? '');
  });
});
