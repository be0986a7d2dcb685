import { pino } from 'pino';
import { expect, it } from 'vitest';
import { systemClock } from '../../base/clock.ts';
import { SendenseError } from '../../base/sendense-error.ts';
import { createCatalog } from '../../catalog/catalog.ts';
import type { Backup } from '../../catalog/points/backup-rows.ts';
import { chainResource, ResourceLocks } from '../resource-locks.ts';
import { type DeleteDeps, deleteBackup } from './delete-backup.ts';

it('refuses a backup that was pinned while it waited for a merge to give way', async () => {
  using catalog = createCatalog(':memory:', systemClock, pino({ level: 'silent' }));
  const now = systemClock.now();
  const contextId = 'ctx-m-20261120-000000';
  const repositoryId = '22222222-2222-4222-8222-222222222222';
  catalog.repositories.save({ id: repositoryId, name: 'r', root: '/r', mount: null, token: null }, now);
  catalog.vms.save(
    {
      contextId,
      vmUuid: '11111111-1111-4111-8111-111111111111',
      name: 'm',
      source: { kind: 'image' },
      registered: true,
      beforeCommand: null,
      afterCommand: null,
      allowBacking: [],
      agentId: null,
      labels: {},
      unprotected: null,
      createdAt: now.toISOString(),
      disks: [],
    },
    now,
  );
  const id = 'backup-m-20261120000000';
  const backup: Backup = {
    id,
    jobId: 'job-1',
    contextId,
    vmName: 'm',
    type: 'full',
    status: 'completed',
    repositoryId,
    consistency: 'crash',
    bytesTransferred: 0,
    totalBytes: 0,
    error: null,
    createdAt: now.toISOString(),
    startedAt: null,
    completedAt: now.toISOString(),
    copiedFrom: null,
    disks: [],
  };
  catalog.backups.save(backup);
  const locks = new ResourceLocks();
  const busy = () => new SendenseError('INTERNAL');
  const merge = { resource: chainResource(repositoryId, contextId), exclusive: true, busy };
  const finishMerge = locks.acquire('a merge', [merge], () => undefined);
  const repositories = { byId: () => ({ id: repositoryId, name: 'r', root: '/nonexistent', mount: null }) };
  const deps = { catalog, clock: systemClock, locks, repositories, chainsChanged: () => undefined };
  const options = { cascade: false, merge: false, force: false };
  const deleted = deleteBackup(deps as unknown as DeleteDeps, id, options);
  const pin = { backupId: id, pinId: 'pin-1', reason: 'audit', until: null, createdAt: now.toISOString() };
  catalog.pins.replace(id, [pin]);
  finishMerge();
  await expect(deleted).rejects.toMatchObject({ code: 'BACKUP_PINNED' });
});
