import { backupIdFor } from '../../base/ids.ts';
import { SendenseError } from '../../base/sendense-error.ts';
import type { Job } from '../../catalog/jobs.ts';
import type { Backup } from '../../catalog/points/backup-rows.ts';
import type { Vm } from '../../catalog/vms.ts';
import type { LayerType } from '../../nbd/exports/export-name.ts';
import type { Repository } from '../../repository/open-repository.ts';
import type { ChainsChanged } from '../chains/chain-keeper.ts';
import { endOf } from '../end-of-job.ts';
import { findVm } from '../find-backup.ts';
import type { JobEngine } from '../job-engine.ts';
import type { JobWork } from '../job-work.ts';
import type { Repositories } from '../repository/repositories.ts';
import { chainResource, type LockRequest, type ResourceLocks } from '../resource-locks.ts';
import type { BackupDeps } from './backup-deps.ts';
import { placesOf } from './plan/machine-ref.ts';
import type { Resumption } from './resume/resumption.ts';
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
 * @param mibPerSecond limit of what is written; null: none. Machines of agents have the limits of their agent
 * @throws VM_UNKNOWN, VM_NOT_REGISTERED, REPOSITORY_UNKNOWN, VM_BUSY, DISK_BUSY
 */
export async function startBackup(
  deps: StartBackupDeps,
  vmName: string,
  type: LayerType,
  repositoryName: string,
  mibPerSecond: number | null = null,
): Promise<Job> {
  const { catalog, clock } = deps.backup;
  const vm = findVm(catalog, vmName);
  if (!vm.registered) throw new SendenseError('VM_NOT_REGISTERED', { vm: vmName });
  const paths = await placesOf(vm);
  // looked up and locked without a pause, so that it cannot be removed in between
  const repository = deps.repositories.byName(repositoryName);
  const createdAt = clock.now();
  const jobId = deps.engine.newId();
  return submit(deps, { vm, type, repository, paths, createdAt, jobId, mibPerSecond, earlier: null });
}

/**
 * Goes on with a backup that an earlier daemon left. What it holds is held before this returns.
 * @throws what `startBackup` throws, REPOSITORY_UNKNOWN when it is away
 */
export async function resumeBackup(deps: StartBackupDeps, job: Job, resumption: Resumption): Promise<Job> {
  const vm = deps.backup.catalog.vms.byContext(String(job.request['context_id']));
  const record = deps.backup.catalog.backups.byId(job.backupId ?? '');
  if (!vm || !record) throw new SendenseError('VM_UNKNOWN', { vm: job.vmName ?? '' });
  const paths = await placesOf(vm);
  const repository = deps.repositories.byName(String(job.request['repository']));
  const createdAt = new Date(record.createdAt);
  const limit = Number(job.request['mib_per_second'] ?? 0);
  const mibPerSecond = limit > 0 ? limit : null;
  const order = { vm, type: record.type, repository, paths, createdAt, jobId: job.id, mibPerSecond };
  return submit(deps, { ...order, earlier: { job, record, resumption } });
}

interface Submission {
  readonly vm: Vm;
  readonly type: LayerType;
  readonly repository: Repository;
  /** What no two jobs read at once. */
  readonly paths: readonly string[];
  readonly createdAt: Date;
  readonly jobId: string;
  readonly mibPerSecond: number | null;
  readonly earlier: { readonly job: Job; readonly record: Backup; readonly resumption: Resumption } | null;
}

function submit(deps: StartBackupDeps, submission: Submission): Job {
  const { vm, type, repository, paths, createdAt, jobId, earlier } = submission;
  const { catalog, clock } = deps.backup;
  const release = deps.locks.acquire(jobId, [
    {
      resource: `vm:${vm.contextId}`,
      exclusive: true,
      busy: (job) => new SendenseError('VM_BUSY', { vm: vm.name, job }),
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
  const backupId = earlier?.record.id ?? backupIdFor(vm.name, createdAt, isTaken);
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
  const record: Backup = earlier?.record ?? {
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
    if (earlier !== null) {
      // nobody may merge or delete what the layers stand on before the job itself begins
      held.push(deps.locks.acquire(jobId, [chainShared(repository, vm)]));
      for (const { parent_backup_id } of [...earlier.resumption.disks, ...earlier.resumption.begun.values()])
        if (parent_backup_id !== null) holdBackup(parent_backup_id);
    }
    catalog.backups.save(record);
    const work: JobWork = {
      kind: 'backup',
      vmName: vm.name,
      backupId,
      request: {
        vm_uuid: vm.vmUuid,
        context_id: vm.contextId,
        type,
        repository: repository.name,
        repository_id: repository.id,
        ...(submission.mibPerSecond === null ? {} : { mib_per_second: submission.mibPerSecond }),
      },
      run: async (context) => {
        if (earlier === null) {
          context.setPhase('waiting');
          held.push(await deps.locks.acquireSoon(jobId, [chainShared(repository, vm)], context));
        }
        catalog.backups.save({ ...record, status: 'running', startedAt: clock.now().toISOString() });
        const { mibPerSecond } = submission;
        const request = { backupId, vm, repository, type, createdAt, mibPerSecond, holdBackup };
        await runBackup(deps.backup, request, context, earlier?.resumption ?? null);
      },
      ended: (job) => {
        for (const giveBack of held) giveBack();
        recordEnd(deps.backup, job, backupId);
        if (job.status === 'completed') {
          deps.chainsChanged(vm.contextId, repository.id);
          deps.backupMade(backupId, vm.name);
        }
      },
    };
    return deps.engine.submit(jobId, work, earlier?.job ?? null);
  } catch (error) {
    for (const giveBack of held) giveBack();
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
