import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { type Catalog, createCatalog } from '../../catalog/catalog.ts';
import type { MirrorPoint } from '../../catalog/mirrors/mirrors.ts';
import type { BackupDisk, JobStatus } from '../../catalog/points/backup-rows.ts';
import { policyDocument } from '../../policy/definition/policy.ts';
import { PolicyBook } from './policy-book.ts';
import { reportCoverage } from './report-coverage.ts';

const REPOSITORY = '11111111-1111-4111-8111-111111111111';
let folder: string;
let now: Date;
let catalog: Catalog;
let book: PolicyBook;
const clock = { now: () => now };

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'sd-coverage-'));
  now = new Date('2026-05-01T12:00:00Z');
  catalog = createCatalog(':memory:', clock, pino({ level: 'silent' }));
  catalog.repositories.save({ id: REPOSITORY, name: 'local', root: folder, mount: null, token: null }, now);
  book = new PolicyBook(join(folder, 'policies'), clock);
  await book.save(
    policyDocument.parse({ name: 'nightly', machines: { patterns: ['web*'] }, schedule: 'daily at 22:00' }),
  );
});
afterEach(() => {
  catalog[Symbol.dispose]();
  rmSync(folder, { recursive: true, force: true });
});

function machine(name: string, unprotected: string | null = null): void {
  catalog.vms.save(
    {
      ...{
        contextId: `ctx-${name}`,
        vmUuid: `uuid-${name}`,
        name,
        source: { kind: 'image' },
        registered: true,
      },
      ...{
        agentId: null,
        beforeCommand: null,
        afterCommand: null,
        allowBacking: [],
        labels: {},
        unprotected,
      },
      ...{ createdAt: now.toISOString(), disks: [] },
    },
    now,
  );
}

const disk: BackupDisk = {
  ...{ diskIndex: 0, diskKey: '/srv/a.img', type: 'full', reason: null, layer: 'full.qcow2' },
  ...{ parentLayer: null, parentBackupId: null, sizeBytes: 1, writtenBytes: 1, fileBytes: 1 },
  ...{ damage: null, fingerprint: null, verifiedAt: null, verifiedOk: null },
};

function point(
  vm: string,
  at: string,
  status: JobStatus = 'completed',
  damage: string | null = null,
): string {
  const id = `backup-${vm}-${at}`;
  catalog.backups.save({
    ...{
      id,
      jobId: `job-${id}`,
      contextId: `ctx-${vm}`,
      vmName: vm,
      type: 'full',
      status,
      consistency: 'crash',
    },
    ...{ repositoryId: REPOSITORY, bytesTransferred: 0, totalBytes: 0, startedAt: at, copiedFrom: null },
    ...{ createdAt: at, completedAt: status === 'completed' ? at : null },
    error:
      status === 'failed'
        ? { code: 'SOURCE_MISSING', message: 'The disk does not exist.', hint: '', fields: {} }
        : null,
    disks: status === 'completed' ? [{ ...disk, damage }] : [],
  });
  return id;
}

const report = () => reportCoverage({ book, catalog, clock });
const problems = (): string[] =>
  report()
    .machines.flatMap(({ vmName, problems: found }) =>
      found.filter(({ severity }) => severity === 'alarm').map(({ problem }) => `${vmName} ${problem}`),
    )
    .toSorted();

it('follows the schedule of the policy: due, its grace, overdue, and well again', () => {
  machine('web1');
  now = new Date('2026-05-01T22:59:00Z');
  expect(problems()).toEqual([]);
  now = new Date('2026-05-01T23:00:00Z');
  expect(problems()).toEqual(['web1 overdue']);
  point('web1', '2026-05-01T23:05:00.000Z');
  expect(problems()).toEqual([]);
  now = new Date('2026-05-02T23:00:00Z');
  expect(problems()).toEqual(['web1 overdue']);
});

it('does not take a damaged point for one', () => {
  machine('web1');
  now = new Date('2026-05-01T23:30:00Z');
  point('web1', '2026-05-01T22:00:05.000Z', 'completed', 'bits have changed');
  expect(problems()).toEqual(['web1 overdue']);
});

it('tells of the newest failure until a good one follows', () => {
  machine('web1');
  point('web1', '2026-05-01T12:30:00.000Z');
  point('web1', '2026-05-01T13:00:00.000Z', 'failed');
  point('web1', '2026-05-01T14:00:00.000Z', 'failed');
  now = new Date('2026-05-01T15:00:00Z');
  expect(problems()).toEqual(['web1 failing']);
  expect(report().machines[0]?.problems[0]?.detail).toContain('2 times since the last good one');
  point('web1', '2026-05-01T14:30:00.000Z');
  expect(problems()).toEqual([]);
});

it('tells of a run that could not even begin with a machine', () => {
  machine('web1');
  point('web1', '2026-05-01T12:30:00.000Z');
  now = new Date('2026-05-01T13:00:00Z');
  const task = { contextId: 'ctx-web1', vmName: 'web1', target: '' };
  const order = { policy: 'nightly', kind: 'backup', startedBy: 'operator', missed: 0 } as const;
  const at = now.toISOString();
  const run = catalog.policyRuns.claim({ ...order, dueAt: at, claimedAt: at }, [task]);
  const ended = { ...task, status: 'failed', attempts: 1, jobId: null, detail: 'SOURCE_MISSING' } as const;
  catalog.policyRuns.saveTask(run?.id ?? 0, ended);
  expect(problems()).toEqual(['web1 failing']);
});

it('knows what was verified, also when that point has gone, and alarms when nothing was in a round', () => {
  machine('web1');
  const id = point('web1', '2026-05-01T12:30:00.000Z');
  now = new Date('2026-06-20T12:00:00Z');
  point('web1', '2026-06-19T22:00:05.000Z');
  expect(problems()).toEqual(['web1 never_verified']);
  catalog.backups.markVerified(id, 0, '2026-06-20T11:00:00.000Z', true);
  catalog.backups.remove(id);
  expect(problems()).toEqual([]);
  expect(report().machines[0]?.verifiedAt).toBe('2026-06-20T11:00:00.000Z');
});

it('misses the newest point in a mirror of the policy when there was time to upload it', async () => {
  machine('web1');
  catalog.mirrors.save({ name: 'offsite', mirrorId: 'm', createdAt: now.toISOString() } as never);
  await book.save({ ...book.byName('nightly').policy, mirrors: ['offsite'] });
  const id = point('web1', '2026-05-01T22:00:05.000Z');
  now = new Date('2026-05-01T23:30:00Z');
  expect(problems()).toEqual([]);
  now = new Date('2026-05-02T00:30:00Z');
  expect(problems()).toEqual(['web1 not_mirrored']);
  const seen = { name: `${id}-disk0`, backupId: id, vmName: 'web1', completedAt: now.toISOString() };
  catalog.mirrors.replacePoints('offsite', [seen as MirrorPoint]);
  expect(problems()).toEqual([]);
});

it('counts who is left out on purpose, and who nobody means', () => {
  machine('web1');
  machine('db1');
  machine('scratch', 'made anew by a script');
  expect(problems()).toEqual(['db1 unprotected']);
  expect(report()).toMatchObject({ ok: false, counts: { machines: 3, ok: 1, excused: 1, unprotected: 1 } });
});

it('tells names that nobody has: of a machine it is a warning, without its mirror a policy cannot run', async () => {
  machine('web1', 'made anew by a script');
  const { policy } = book.byName('nightly');
  await book.save({ ...policy, machines: { ...policy.machines, names: ['web1', 'wbe1'] } });
  expect(report()).toMatchObject({
    ok: true,
    absent: [{ policy: 'nightly', what: 'machine', name: 'wbe1' }],
  });
  await book.save({ ...policy, mirrors: ['moon'] });
  expect(report()).toMatchObject({
    ok: false,
    absent: [{ policy: 'nightly', what: 'mirror', name: 'moon' }],
  });
});
