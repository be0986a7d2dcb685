import { backupIdFor } from '../../base/ids.ts';
import { SendenseError } from '../../base/sendense-error.ts';
import type { Backup } from '../../catalog/backups.ts';
import type { Job } from '../../catalog/jobs.ts';
import type { Vm } from '../../catalog/vms.ts';
import type { LayerType } from '../../nbd/exports/export-name.ts';
import type { Repository } from '../../repository/open-repository.ts';
import type { ChainsChanged } from '../chains/chain-keeper.ts';
import { endOf } from '../end-of-job.ts';
import { findVm } from '../find-backup.ts';
import type { JobEngine } from '../job-engine.ts';
import type { Repositories } from '../repository/repositories.ts';
import { chainResource, type LockRequest, type ResourceLocks } from '../resource-locks.ts';
import type { BackupDeps } from './backup-deps.ts';
import { placesOf } from './machine-ref.ts';
import { runBackup } from './run-backup.ts';

export interface StartBackupDeps {
  readonly backup: BackupDeps;
  readonly engine: JobEngine;
  readonly locks: ResourceLocks;
  readonly repositories: Repositories;
  readonly chainsChanged: ChainsChanged;
  /** Told of each new restore point. */
  readonly backupMade: (backupId: string, vmName: string) => void;
}

/**
 * Starts the backup of a machine and returns at once.
 * @throws VM_UNKNOWN, VM_NOT_REGISTERED, REPOSITORY_UNKNOWN, VM_BUSY, DISK_BUSY
 */
export async function startBackup(
  deps: StartBackupDeps,
  vmName: string,
  type: LayerType,
  repositoryName: string,
): Promise<Job> {
  const { catalog, clock } = deps.backup;
  const vm = findVm(catalog, vmName);
  if (!vm.registered) throw new SendenseError('VM_NOT_REGISTERED', { vm: vmName });
  const paths = await placesOf(vm);
  // looked up and locked without a pause, so that it cannot be removed in between
  const repository = deps.repositories.byName(repositoryName);
  const jobId = deps.engine.newId();
  const createdAt = clock.now();
  const release = deps.locks.acquire(jobId, [
    {
      resource: `vm:${vm.contextId}`,
      exclusive: true,
      busy: (job) => new SendenseError('VM_BUSY', { vm: vmName, job }),
    },
    {
      resource: `repository:${repository.id}`,
      exclusive: false,
      busy: (holder) => new SendenseError('REPOSITORY_BUSY', { repository: repository.name, holder }),
    },
    ...paths.map(
      (path): LockRequest => ({
        resource: `disk:${path}`,
        exclusive: true,
        busy: (holder) => new SendenseError('DISK_BUSY', { path, holder }),
      }),
    ),
  ]);
  const held = [release];
  const isTaken = (id: string) => catalog.backups.byId(id) !== null || catalog.retired.has(id);
  const backupId = backupIdFor(vm.name, createdAt, isTaken);
  const holdBackup = (id: string) => {
    held.push(
      deps.locks.acquire(jobId, [
        {
          resource: `backup:${id}`,
          exclusive: false,
          busy: (holder) => new SendenseError('BACKUP_BUSY', { backup: id, holder }),
        },
      ]),
    );
  };
  const record: Backup = {
    id: backupId,
    jobId,
    contextId: vm.contextId,
    vmName: vm.name,
    type,
    status: 'pending',
    repositoryId: repository.id,
    consistency: 'crash',
    bytesTransferred: 0,
    totalBytes: 0,
    error: null,
    createdAt: createdAt.toISOString(),
    startedAt: null,
    completedAt: null,
    copiedFrom: null,
    disks: [],
  };
  try {
    catalog.backups.save(record);
    return deps.engine.submit(jobId, {
      kind: 'backup',
      vmName: vm.name,
      backupId,
      request: {
        vm_uuid: vm.vmUuid,
        context_id: vm.contextId,
        type,
        repository: repository.name,
        repository_id: repository.id,
      },
      run: async (context) => {
        context.setPhase('waiting');
        held.push(await deps.locks.acquireSoon(jobId, [chainShared(repository, vm)], context));
        catalog.backups.save({ ...record, status: 'running', startedAt: clock.now().toISOString() });
        await runBackup(deps.backup, { backupId, vm, repository, type, createdAt, holdBackup }, context);
      },
      ended: (job) => {
        for (const giveBack of held) giveBack();
        recordEnd(deps.backup, job, backupId);
        if (job.status === 'completed') {
          deps.chainsChanged(vm.contextId, repository.id);
          deps.backupMade(backupId, vm.name);
        }
      },
    });
  } catch (error) {
    release();
    throw error;
  }
}

/** Nobody merges layers while a new one is built on them; who does it already gives way. */
const chainShared = (repository: Repository, vm: Vm): LockRequest => ({
  resource: chainResource(repository.id, vm.contextId),
  exclusive: false,
  busy: (holder) => new SendenseError('CHAIN_BUSY', { vm: vm.name, holder }),
});

/** Brings the backup's row to the job's end and says it. A published backup stays completed whatever came after. */
export function recordEnd({ catalog }: Pick<BackupDeps, 'catalog'>, job: Job, backupId: string): void {
  const backup = catalog.backups.byId(backupId);
  if (!backup) return;
  if (backup.status !== 'completed')
    catalog.backups.save({
      ...backup,
      status: job.status === 'completed' ? 'failed' : job.status,
      error: job.error,
    });
  catalog.events.add({
    ...endOf(job, 'backup', {
      completed: `Backup ${backupId} is complete.`,
      cancelled: `Backup ${backupId} was cancelled; nothing of it was kept.`,
      failed: `Backup ${backupId} failed: `,
    }),
    subject: job.vmName,
    data: { backup_id: backupId, job_id: job.id, warnings: job.warnings },
  });
}
