import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { expectFailure, Operator, until } from '../support/operator.ts';
import { RandomDisk } from '../support/random-disk.ts';
import { newBucket, type S3Server, sharedS3 } from '../support/s3-server.ts';

const work = mkdtempSync(join(tmpdir(), 'sd-effects-'));
const appliance = new TestAppliance();
const operator = new Operator(appliance);
let server: S3Server;
let disk: RandomDisk;

interface Listed {
  job_id: string;
  kind: string;
  status: string;
  request?: unknown;
  result: { added?: number } | null;
}
const jobs = (kind: string) =>
  appliance.json<{ jobs: Listed[] }>('job', 'list').jobs.filter((job) => job.kind === kind);

beforeAll(async () => {
  server = await sharedS3();
  disk = new RandomDisk(join(work, 'disk'), 24, 7);
  disk.write(12);
  await appliance.start(['exports.backend=storage-daemon']);
  appliance.json('vm', 'add', 'm', '--disk', disk.path);
}, 200_000);
afterAll(async () => {
  await appliance.dispose();
  rmSync(work, { recursive: true, force: true });
});

it('sends a new restore point to each mirror; one that fails keeps no other from it', async () => {
  for (const name of ['east', 'west']) {
    const secret = join(work, `secret-${name}`);
    writeFileSync(secret, readFileSync(server.secretKeyFile));
    appliance.json(
      ...['mirror', 'add', name, '--endpoint', server.endpoint, '--bucket', newBucket(), '--create-bucket'],
      ...['--access-key', server.accessKey, '--secret-key-file', secret, '--no-auto'],
    );
  }
  // the first of the two cannot be reached any more
  rmSync(join(work, 'secret-east'));
  appliance.json('policy', 'add', 'both', '--vm', 'm', '--mirror', 'east', '--mirror', 'west');
  expect(appliance.ctl('policy', 'run', 'both', '--wait').code).toBe(0);
  await operator.idle();
  expect(
    jobs('mirror-sync')
      .map(({ status }) => status)
      .toSorted(),
  ).toEqual(['completed', 'failed']);
  const points = (name: string) =>
    appliance
      .json<{ points: { backup_id: string }[] }>('mirror', 'points', name)
      .points.map((one) => one.backup_id);
  const [made] = operator.backups();
  expect([points('east'), points('west')]).toEqual([[], [made?.backup_id]]);

  // what is missing is brought up to date by its own kind of run, and only that
  writeFileSync(join(work, 'secret-east'), readFileSync(server.secretKeyFile));
  expect(appliance.ctl('policy', 'run', 'both', '--kind', 'mirror', '--wait').code).toBe(0);
  expect([points('east'), points('west')]).toEqual([[made?.backup_id], [made?.backup_id]]);
  expect(jobs('mirror-sync')).toHaveLength(3);
});

it('runs its commands around the backups, and makes none when the first of them fails', async () => {
  const log = join(work, 'log');
  const tell = (word: string) => `echo ${word} $SENDENSE_POLICY $SENDENSE_HOOK >> ${log}`;
  appliance.json('policy', 'add', 'hooked', '--vm', 'm', '--before', tell('a'), '--after', tell('b'));
  expect(appliance.ctl('policy', 'run', 'hooked', '--wait').code).toBe(0);
  expect(readFileSync(log, 'utf8')).toBe('a hooked before\nb hooked after\n');
  const before = operator.backups().length;
  appliance.json(
    'policy',
    'set',
    'hooked',
    '--before',
    'echo not today >&2; exit 3',
    '--after',
    `touch ${log}.after`,
  );
  const failed = appliance.ctl('policy', 'run', 'hooked', '--wait');
  expectFailure(failed, 'POLICY_RUN_FAILED', 1);
  expect(failed.stderr).toContain('not today');
  // it may have frozen a part
  expect(existsSync(`${log}.after`)).toBe(true);
  expect(operator.backups()).toHaveLength(before);
});

it('keeps to the rate of the policy', () => {
  appliance.json('policy', 'add', 'slow', '--vm', 'm', '--rate', '1', '--full', 'daily');
  disk.write(1);
  const started = performance.now();
  expect(appliance.ctl('policy', 'run', 'slow', '--wait').code).toBe(0);
  const [full] = operator.backups();
  const mib = (full?.disks[0]?.written_bytes ?? 0) / 1024 ** 2;
  expect(mib).toBeGreaterThan(3);
  // it takes at least so long, less what a first burst lets through
  expect((performance.now() - started) / 1000).toBeGreaterThan(mib - 1.5);
  operator.expectRestored(full?.backup_id ?? '', 0, disk.path);
});

it('waits for who is at the machine, and does not run twice at once', async () => {
  const first = appliance.json<{ run_id: number }>('policy', 'run', 'slow');
  const again = appliance.ctl('policy', 'run', 'slow');
  if (again.code !== 0) expectFailure(again, 'POLICY_BUSY', 11);
  await until('the first run is over', () => {
    const run = JSON.parse(appliance.rest('GET', `/api/v1/policy-runs/${first.run_id}`).body) as {
      outcome: string;
    };
    return run.outcome === 'completed';
  });
});
