import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { S3Store } from '../../src/mirror/store/s3-store.ts';
import { TestAppliance } from '../support/appliance.ts';
import { sh } from '../support/guest-disk.ts';
import { expectFailure, Operator, until } from '../support/operator.ts';
import { keysIn, newBucket, placeOf, type S3Server, sharedS3 } from '../support/s3-server.ts';

const DAY_MS = 24 * 3600 * 1000;
const work = mkdtempSync(join(tmpdir(), 'sd-upkeep-'));
const appliance = new TestAppliance();
const operator = new Operator(appliance);
const buckets = { free: newBucket(), held: newBucket() };
const settings = ['exports.backend=storage-daemon'];
let server: S3Server;
const disk = join(work, 'disk');
/** Nothing is shared with what was there before. */
const writeAnew = () => writeFileSync(disk, randomBytes(8 * 1024 ** 2));

interface Point {
  backup_id: string;
  locked_until: string | null;
}
interface Run {
  run_id: number;
  kind: string;
  started_by: string;
  outcome: string | null;
  missed: number;
  tasks: { vm_name: string; target: string; status: string; job_id: string | null; detail: string }[];
}
interface Preview {
  mirrors: {
    mirror: string;
    rules: string;
    points: { backup_id: string; action: string }[];
    renewed: number;
  }[];
}
const points = (mirror: string) =>
  appliance.json<{ points: Point[] }>('mirror', 'points', mirror, '--refresh').points;
const listed = () => appliance.json<{ runs: Run[] }>('policy', 'runs').runs;
const shown = (run: Run | undefined) =>
  appliance.json<Run>('policy', 'runs', '--run', String(run?.run_id ?? 0));
const careOf = (mirror: string) =>
  shown(listed()[0]).tasks.find(({ vm_name, target }) => vm_name === '(upkeep)' && target === mirror);
const resultOf = (jobId: string | null | undefined) =>
  (JSON.parse(appliance.rest('GET', `/api/v1/jobs/${jobId}`).body) as { result: Record<string, number> })
    .result;
const runMirrors = () =>
  expect(appliance.ctl('policy', 'run', 'p', '--kind', 'mirror', '--wait').code).toBe(0);

beforeAll(async () => {
  server = await sharedS3();
  writeAnew();
  await appliance.start(settings);
  appliance.json('vm', 'add', 'm', '--disk', disk);
  const place = (bucket: string) => [
    ...['--endpoint', server.endpoint, '--bucket', bucket, '--create-bucket'],
    ...['--access-key', server.accessKey, '--secret-key-file', server.secretKeyFile, '--no-auto'],
  ];
  appliance.json('mirror', 'add', 'free', ...place(buckets.free), '--keep-last', '1', '--grace-hours', '0');
  appliance.json('mirror', 'add', 'held', ...place(buckets.held), '--lock', 'compliance:2');
  appliance.json('policy', 'add', 'p', '--vm', 'm', '--mirror', 'free', '--mirror', 'held');
}, 200_000);
afterAll(async () => {
  await appliance.dispose();
  rmSync(work, { recursive: true, force: true });
});

it('says that nobody looks after a mirror with rules or locks, until a policy does by itself', () => {
  expect(appliance.ctl('status').stderr).toContain('nobody renews the locks of the mirror held');
  const preview = appliance.ctl('policy', 'preview', 'p');
  expect(preview.stderr).toContain('policy set p --mirror-schedule');
  appliance.json('policy', 'set', 'p', '--mirror-schedule', 'daily at 04:00');
  const { coverage } = JSON.parse(appliance.rest('GET', '/api/v1/status').body) as { coverage: object };
  expect(coverage).toMatchObject({ unkept_mirrors: [] });
  // the same rules as everywhere else, refused as everywhere else
  expectFailure(appliance.ctl('mirror', 'set', 'free', '--daily', '3x'), 'REQUEST_INVALID', 2);
});

it('deletes by the rules of the mirror what the preview said, and collects what nothing needs', async () => {
  operator.backUp('m', 'full');
  runMirrors();
  const before = await keysIn(placeOf(server, buckets.free), 'packs/');
  writeAnew();
  const second = operator.backUp('m', 'full');
  appliance.json('mirror', 'sync', 'free');
  const { mirrors } = appliance.json<Preview>('policy', 'preview', 'p');
  expect(mirrors[0]).toMatchObject({ mirror: 'free', rules: expect.stringContaining('the last point') });
  expect(mirrors[0]?.points.map(({ action }) => action)).toEqual(['keep', 'delete']);
  expect(mirrors[1]?.points.map(({ action }) => action)).toEqual(['keep']);
  runMirrors();
  expect(points('free').map(({ backup_id }) => backup_id)).toEqual([second.backup_id]);
  expect(points('held')).toHaveLength(2);
  expect(resultOf(careOf('free')?.job_id)).toMatchObject({ restore_points: 1 });

  // another one that goes: with it what was condemned before
  writeAnew();
  const third = operator.backUp('m', 'full');
  runMirrors();
  expect(resultOf(careOf('free')?.job_id)['deleted']).toBeGreaterThan(0);
  expect(resultOf(careOf('free')?.job_id)['freed_bytes']).toBeGreaterThan(0);
  const left = new Set(await keysIn(placeOf(server, buckets.free), 'packs/'));
  expect(before.some((key) => !left.has(key))).toBe(true);
  const output = join(work, 'restored');
  appliance.json('restore', 'disk', '--backup-id', `free/${third.backup_id}`, '--output', output);
  sh('cmp', output, disk);
  rmSync(output);
  // nothing is due twice on a day, and what retention removed is not sent again
  runMirrors();
  expect(careOf('free')).toMatchObject({ status: 'completed', job_id: null, detail: 'nothing to do' });
  expect(points('free').map(({ backup_id }) => backup_id)).toEqual([third.backup_id]);
});

it('renews locks of which half is over, on every object, as the server itself says', async () => {
  const ids = points('held').map(({ backup_id }) => backup_id);
  // of nine days less than half are left now, but nobody said what may go one day
  appliance.json('mirror', 'set', 'held', '--lock', 'compliance:9');
  expect(appliance.json<Preview>('policy', 'preview', 'p').mirrors[1]?.renewed).toBe(0);
  appliance.json('mirror', 'set', 'held', '--keep-last', '9');
  expect(appliance.json<Preview>('policy', 'preview', 'p').mirrors[1]?.renewed).toBe(3);
  runMirrors();
  expect(resultOf(careOf('held')?.job_id)).toMatchObject({ renewed: 3, extended: expect.any(Number) });
  const store = new S3Store(placeOf(server, buckets.held));
  for (const prefix of ['packs/', 'metadata/'])
    for (const key of await keysIn(placeOf(server, buckets.held), prefix)) {
      const lock = await store.retentionOf(key);
      expect([key, (lock?.until.getTime() ?? 0) - Date.now() > 8.9 * DAY_MS]).toEqual([key, true]);
    }
  store.close();
  // what no rule keeps is not locked again, and stays as long as its lock
  appliance.json('mirror', 'set', 'held', '--lock', 'compliance:30', '--keep-last', '1');
  runMirrors();
  const locks = points('held').map(({ backup_id, locked_until }) => {
    const days = (Date.parse(locked_until ?? '') - Date.now()) / DAY_MS;
    return [backup_id, Math.round(days)];
  });
  expect(locks).toEqual([
    [ids[0], 30],
    [ids[1], 9],
    [ids[2], 9],
  ]);
});

it('is made up for once by the daemon after days without it, and left alone when told so', async () => {
  appliance.json('mirror', 'set', 'held', '--no-upkeep');
  await appliance.stop();
  const path = join(appliance.home, 'state', 'policies', 'p.json');
  const stored = JSON.parse(readFileSync(path, 'utf8')) as { since: Record<string, string> };
  stored.since['mirror'] = new Date(Date.now() - 4 * DAY_MS).toISOString();
  writeFileSync(path, JSON.stringify(stored));
  await appliance.start(settings);
  const ofSchedule = () => listed().filter(({ started_by }) => started_by === 'schedule');
  await until('the run is over', () => ofSchedule().some(({ outcome }) => outcome === 'completed'));
  expect(ofSchedule()).toHaveLength(1);
  expect(ofSchedule()[0]).toMatchObject({ kind: 'mirror' });
  expect(ofSchedule()[0]?.missed).toBeGreaterThanOrEqual(2);
  const parts = shown(ofSchedule()[0]).tasks.map(({ vm_name, target }) => `${vm_name} ${target}`);
  expect(parts).toEqual(['(upkeep) free', 'm free', 'm held']);
});

it('runs in the same way from the timer of systemd', () => {
  appliance.json('policy', 'set', 'p', '--runner', 'systemd');
  const units = join(work, 'units');
  appliance.json('schedule', 'export', '--systemd', '--output', units);
  const service = readFileSync(join(units, 'sendense-mirror@.service'), 'utf8');
  const order = /^ExecStart=\S+ --home \S+ (.+)$/m.exec(service)?.[1]?.replaceAll('%i', 'p').split(' ') ?? [];
  expect(readFileSync(join(units, 'sendense-mirror@p.timer'), 'utf8')).toContain('OnCalendar=*-*-* 04:00:00');
  operator.backUp('m', 'full');
  expect(appliance.ctl(...order).code).toBe(0);
  expect(listed()[0]).toMatchObject({ kind: 'mirror', started_by: 'systemd', outcome: 'completed' });
  expect(resultOf(careOf('free')?.job_id)).toMatchObject({ restore_points: 1 });
  expect(points('free')).toHaveLength(1);
});
