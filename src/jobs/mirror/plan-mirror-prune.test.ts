import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createLogger } from '../../base/logger.ts';
import { type Catalog, createCatalog } from '../../catalog/catalog.ts';
import type { MirrorPoint } from '../../catalog/mirrors/mirrors.ts';
import { planMirrorPrune } from './plan-mirror-prune.ts';

const now = new Date('2026-11-20T12:00:00Z');
const clock = { now: () => now };
const work = mkdtempSync(join(tmpdir(), 'sd-plan-'));
let catalog: Catalog;

const point = (vm: string, day: string): MirrorPoint => ({
  name: `backup-${vm}-${day}-disk0`,
  backupId: `backup-${vm}-${day}`,
  diskIndex: 0,
  vmName: vm,
  vmUuid: '11111111-1111-4111-8111-111111111111',
  createdAt: `2026-11-${day}T00:00:00Z`,
  completedAt: `2026-11-${day}T00:10:00Z`,
  uploadedAt: `2026-11-${day}T00:20:00Z`,
  ...{ sizeBytes: 1, dataBytes: 1, storedBytes: 1, lockedUntil: null, etag: day },
  members: [`backup-${vm}-${day}-disk0`],
});

beforeAll(() => {
  catalog = createCatalog(join(work, 'catalog.db'), clock, createLogger('error'));
  catalog.mirrors.save({
    ...{ name: 'off', mirrorId: 'x', endpoint: '', region: '', bucket: '', prefix: '', accessKey: '' },
    ...{ secretKeyFile: '', pathStyle: true, tlsCaFile: null, mode: 'packed', blockBytes: 1 },
    ...{ isEncrypted: false, epoch: 1, capabilities: null, createdAt: now.toISOString() },
    settings: {
      ...{ level: 1, isAutomatic: false, vms: [], mibPerSecond: null, rateWindows: [], lock: null },
      ...{ retention: {}, hasUpkeep: true, graceHours: 24 },
    },
  });
  catalog.mirrors.replacePoints('off', [
    point('a', '18'),
    point('a', '10'),
    point('b', '09'),
    point('b', '08'),
  ]);
});
afterAll(() => {
  catalog[Symbol.dispose]();
  rmSync(work, { recursive: true, force: true });
});

const decided = (rules: Parameters<typeof planMirrorPrune>[2]) => {
  const { lines, lastOf } = planMirrorPrune({ catalog, clock }, 'off', rules);
  return {
    going: lines.filter(({ action }) => action === 'delete').map(({ backup }) => backup.backupId),
    lastOf,
  };
};

it('names the machines of which nothing would be left', () => {
  expect(decided({ time_zone: 'UTC', keep_within: '7d' })).toEqual({
    going: ['backup-a-10', 'backup-b-09', 'backup-b-08'],
    lastOf: ['b'],
  });
  expect(decided({ time_zone: 'UTC', keep_last: 1 })).toEqual({
    going: ['backup-a-10', 'backup-b-08'],
    lastOf: [],
  });
});

it('does not take the good one away because a newer one is damaged', () => {
  catalog.mirrorHealth.addDamaged('off', ['backup-a-18-disk0']);
  expect(decided({ time_zone: 'UTC', keep_last: 1 }).going).not.toContain('backup-a-10');
  catalog.mirrorHealth.clearDamaged('off', ['backup-a-18-disk0']);
});
