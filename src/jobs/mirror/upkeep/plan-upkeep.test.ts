import { pino } from 'pino';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { type Catalog, createCatalog } from '../../../catalog/catalog.ts';
import {
  defaultMirrorSettings,
  type MirrorPoint,
  type MirrorRecord,
  type MirrorSettings,
} from '../../../catalog/mirrors/mirrors.ts';
import { planUpkeep } from './plan-upkeep.ts';

const DAY_MS = 24 * 3600 * 1000;
let now: Date;
let catalog: Catalog;
const clock = { now: () => now };
const after = (days: number): string => new Date(now.getTime() + days * DAY_MS).toISOString();

beforeEach(() => {
  now = new Date('2026-01-01T04:00:00Z');
  catalog = createCatalog(':memory:', clock, pino({ level: 'silent' }));
});
afterEach(() => catalog[Symbol.dispose]());

function mirror(settings: Partial<MirrorSettings>): MirrorRecord {
  const record: MirrorRecord = {
    ...{ name: 'off', mirrorId: 'x', endpoint: '', region: '', bucket: '', prefix: '', accessKey: '' },
    ...{ secretKeyFile: '', pathStyle: true, tlsCaFile: null, mode: 'packed', blockBytes: 1 },
    ...{ isEncrypted: false, epoch: 1, capabilities: { object_lock: true }, createdAt: after(0) },
    settings: { ...defaultMirrorSettings, ...settings },
  };
  catalog.mirrors.save(record);
  return record;
}

const point = (vm: string, completedAt: string, lockedUntil: string | null): MirrorPoint => ({
  ...{ name: `${vm}-${completedAt}-disk0`, backupId: `${vm}-${completedAt}`, diskIndex: 0, vmName: vm },
  ...{ vmUuid: `uuid-${vm}`, createdAt: completedAt, completedAt, uploadedAt: completedAt, lockedUntil },
  ...{ sizeBytes: 1, dataBytes: 1, storedBytes: 1, etag: completedAt },
  members: [`${vm}-${completedAt}-disk0`],
});

/** A daily mirror run of a machine that is backed up each day, but for the days on which nothing runs at all. */
function live(record: MirrorRecord, days: number, isAway: (day: number) => boolean, each: () => void): void {
  const lockDays = record.settings.lock?.days ?? 0;
  let points: MirrorPoint[] = [];
  for (let day = 0; day < days; day += 1) {
    now = new Date(now.getTime() + DAY_MS);
    if (!isAway(day)) {
      points = [point('a', now.toISOString(), after(lockDays)), ...points];
      catalog.mirrors.replacePoints('off', points);
      const { doomed, renewed, lockUntil } = planUpkeep({ catalog, clock }, record);
      points = points
        .filter(({ backupId }) => !doomed.includes(backupId))
        .map((one) => (renewed.includes(one.backupId) ? { ...one, lockedUntil: lockUntil } : one));
      catalog.mirrors.replacePoints('off', points);
    }
    each();
  }
}

it('lets no lock of what the rules keep run out in a year, though nothing runs for six days of each month', () => {
  const record = mirror({
    lock: { mode: 'compliance', days: 14 },
    retention: { keep_last: 3, monthly: 12 },
  });
  const unlocked = new Set<string>();
  let most = 0;
  live(
    record,
    365,
    (day) => day % 30 >= 24,
    () => {
      const { lines } = planUpkeep({ catalog, clock }, record);
      most = Math.max(most, lines.length);
      for (const { backup, isWanted } of lines)
        if (isWanted && Date.parse(backup.lockedUntil ?? '') <= now.getTime()) unlocked.add(backup.backupId);
    },
  );
  expect([...unlocked]).toEqual([]);
  // twelve of months, three newest, and those whose lock has not run out
  expect(most).toBeLessThan(12 + 3 + 14);
  expect(most).toBeGreaterThan(12);
});

it('locks nothing again that no rule keeps, and deletes it when its lock is over', () => {
  const record = mirror({ lock: { mode: 'governance', days: 10 }, retention: { keep_last: 1 } });
  catalog.mirrors.replacePoints('off', [
    point('a', '2025-12-31T00:00:00Z', after(4)),
    point('a', '2025-12-30T00:00:00Z', after(1)),
  ]);
  expect(planUpkeep({ catalog, clock }, record)).toMatchObject({
    doomed: [],
    renewed: ['a-2025-12-31T00:00:00Z'],
    lockUntil: after(10),
  });
  now = new Date(now.getTime() + 2 * DAY_MS);
  expect(planUpkeep({ catalog, clock }, record).doomed).toEqual(['a-2025-12-30T00:00:00Z']);
});

it('renews compliance locks only where rules let restore points go', () => {
  const record = mirror({});
  catalog.mirrors.replacePoints('off', [point('a', '2025-12-31T00:00:00Z', after(1))]);
  const renewed = (settings: object) =>
    planUpkeep({ catalog, clock }, { ...record, settings: { ...record.settings, ...settings } }).renewed;
  expect(renewed({ lock: { mode: 'compliance', days: 10 } })).toEqual([]);
  expect(renewed({ lock: { mode: 'compliance', days: 10 }, retention: { time_zone: 'UTC' } })).toEqual([]);
  expect(renewed({ lock: { mode: 'compliance', days: 10 }, retention: { keep_last: 1 } })).toHaveLength(1);
  expect(renewed({ lock: { mode: 'governance', days: 10 } })).toHaveLength(1);
});

it('leaves all of a machine of which no good restore point would stay, and goes on with the others', () => {
  const record = mirror({ retention: { keep_within: '7d' } });
  catalog.mirrors.replacePoints('off', [
    point('a', '2025-12-31T00:00:00Z', null),
    point('a', '2025-12-01T00:00:00Z', null),
    point('gone', '2025-11-01T00:00:00Z', null),
  ]);
  expect(planUpkeep({ catalog, clock }, record)).toMatchObject({
    doomed: ['a-2025-12-01T00:00:00Z'],
    lastOf: ['gone'],
    renewed: [],
  });
});

it('collects once a day, whoever did it', () => {
  const record = mirror({});
  const due = () => planUpkeep({ catalog, clock }, record).isCollectionDue;
  expect(due()).toBe(true);
  const job = (id: string, kind: 'mirror-prune' | 'mirror-upkeep', result: object, of = 'off') =>
    catalog.jobs.save({
      ...{ id, kind, status: 'completed', phase: null, vmName: null, backupId: null, error: null },
      ...{ request: { mirror: of }, warnings: [], result: { ...result }, createdAt: after(0) },
      progress: {
        totalBytes: 0,
        processedBytes: 0,
        transferredBytes: 0,
        bytesPerSecond: 0,
        etaSeconds: null,
      },
      ...{ startedAt: after(0), finishedAt: after(0) },
    });
  // one that only renewed locks collected nothing, and another mirror is another one
  job('job-1', 'mirror-upkeep', { renewed: 1 });
  job('job-2', 'mirror-prune', { condemned: 0 }, 'other');
  expect(due()).toBe(true);
  job('job-3', 'mirror-prune', { condemned: 0 });
  expect(due()).toBe(false);
  now = new Date(now.getTime() + DAY_MS);
  expect(due()).toBe(true);
});
