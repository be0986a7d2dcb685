import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Capabilities } from '../../src/mirror/store/object-store.ts';
import { S3Store } from '../../src/mirror/store/s3-store.ts';
import { TestAppliance } from '../support/appliance.ts';
import { sh } from '../support/guest-disk.ts';
import { expectFailure, Operator } from '../support/operator.ts';
import { RandomDisk } from '../support/random-disk.ts';
import { keysIn, newBucket, placeOf, type S3Server, sharedS3 } from '../support/s3-server.ts';

const DAY_MS = 24 * 3600 * 1000;
const work = mkdtempSync(join(tmpdir(), 'sd-locks-'));
const disk = join(work, 'disk');
const appliance = new TestAppliance();
const operator = new Operator(appliance);
const bucket = newBucket();
let server: S3Server;
let random: RandomDisk;
const place = () => placeOf(server, bucket);
const points = () =>
  appliance.json<{ points: { backup_id: string; locked_until: string | null }[] }>(
    'mirror',
    'points',
    'locked',
    '--refresh',
  ).points;

beforeAll(async () => {
  server = await sharedS3();
  random = new RandomDisk(disk, 8, 3);
  writeFileSync(join(work, 'pass'), 'a long passphrase');
  await appliance.start();
  appliance.json('vm', 'add', 'm', '--disk', disk);
  operator.backUp('m');
}, 200_000);
afterAll(async () => {
  await appliance.dispose();
  rmSync(work, { recursive: true, force: true });
});

it('a mirror with locks is made only where they were seen to hold', async () => {
  appliance.json(
    ...['mirror', 'add', 'locked', '--endpoint', server.endpoint, '--bucket', bucket, '--create-bucket'],
    ...['--access-key', server.accessKey, '--secret-key-file', server.secretKeyFile],
    ...['--passphrase-file', join(work, 'pass'), '--lock', 'compliance:2', '--no-auto'],
  );
  const { capabilities } = appliance.json<{ capabilities: Capabilities }>('mirror', 'show', 'locked');
  expect(capabilities).toMatchObject({ object_lock: true, versioning: true });
});

it('every object that a restore point needs is locked, and the date is shown', async () => {
  appliance.json('mirror', 'sync', 'locked');
  const store = new S3Store(place());
  for (const prefix of ['packs/', 'metadata/'])
    for (const key of await keysIn(place(), prefix)) {
      const lock = await store.retentionOf(key);
      expect([key, lock?.mode]).toEqual([key, 'compliance']);
      expect((lock?.until.getTime() ?? 0) - Date.now()).toBeGreaterThan(1.9 * DAY_MS);
      // the server itself refuses
      await expect(store.deleteVersions(key)).rejects.toMatchObject({ code: 'MIRROR_LOCKED' });
    }
  store.close();
  expect(points()[0]?.locked_until).toMatch(/^20/);
});

it('what a newer restore point stands on is locked as long as that one', async () => {
  random.write(4);
  appliance.json('mirror', 'set', 'locked', '--lock', 'compliance:5');
  const made = operator.backUp('m');
  appliance.json('mirror', 'sync', 'locked');
  expect(made.disks[0]?.backup_type).toBe('incremental');
  const store = new S3Store(place());
  for (const prefix of ['packs/', 'metadata/'])
    for (const key of await keysIn(place(), prefix))
      expect(((await store.retentionOf(key))?.until.getTime() ?? 0) - Date.now()).toBeGreaterThan(
        4.9 * DAY_MS,
      );
  store.close();
});

it('deleting what is locked is refused with the date, and retention leaves it', () => {
  const plan = appliance.json<{ plan: string; points: { action: string; reason: string }[] }>(
    ...['mirror', 'prune', 'locked', '--keep-last', '1'],
  );
  expect(plan.points.map(({ action }) => action)).toEqual(['keep', 'keep']);
  expect(plan.points[1]?.reason).toContain('locked until');
});

it('a periodic run extends the locks of all, and a legal hold is set and lifted', async () => {
  const { result } = appliance.json<{ result: { extended: number } }>(
    'mirror',
    'lock',
    'locked',
    '--days',
    '9',
  );
  expect(result.extended).toBeGreaterThan(6);
  for (const { locked_until } of points())
    expect(Date.parse(locked_until ?? '') - Date.now()).toBeGreaterThan(8.9 * DAY_MS);
  appliance.json('mirror', 'lock', 'locked', '--legal-hold');
  appliance.json('mirror', 'lock', 'locked', '--no-legal-hold');
  // a shorter one changes nothing
  expect(
    appliance.json<{ result: { extended: number } }>('mirror', 'lock', 'locked', '--days', '3').result
      .extended,
  ).toBe(0);
  for (const { backup_id } of points()) {
    appliance.json(
      'restore',
      'disk',
      '--backup-id',
      `locked/${backup_id}`,
      '--output',
      join(work, 'out'),
      '--force',
    );
  }
  sh('cmp', join(work, 'out'), join(work, 'out'));
});

it('a server that takes locks and does not keep them is found out', () => {
  // a bucket made without object lock
  const other = newBucket();
  const result = appliance.ctl(
    ...['mirror', 'add', 'open', '--endpoint', server.endpoint, '--bucket', other, '--create-bucket'],
    ...['--access-key', server.accessKey, '--secret-key-file', server.secretKeyFile],
  );
  expect(result.code).toBe(0);
  expectFailure(appliance.ctl('mirror', 'set', 'open', '--lock', 'governance:1'), 'MIRROR_INVALID', 2);
  expectFailure(appliance.ctl('mirror', 'lock', 'open', '--days', '1'), 'MIRROR_INVALID', 2);
});
