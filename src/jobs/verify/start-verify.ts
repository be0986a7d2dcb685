import type { Logger } from '../../base/logger.ts';
import { SendenseError } from '../../base/sendense-error.ts';
import type { Job } from '../../catalog/jobs.ts';
import type { Backup } from '../../catalog/points/backup-rows.ts';
import type { Vm } from '../../catalog/vms.ts';
import { DigestPool } from '../../nbd/mover/digest-pool.ts';
import type { Repository } from '../../repository/open-repository.ts';
import { ChainViews } from '../../repository/verify/chain-views.ts';
import { SLOTS } from '../../repository/verify/inspect-view.ts';
import { paceOf } from '../../repository/verify/pace.ts';
import { endOf } from '../end-of-job.ts';
import { findCompleted, findVm } from '../find-backup.ts';
import type { JobEngine } from '../job-engine.ts';
import type { JobContext } from '../job-work.ts';
import type { Repositories } from '../repository/repositories.ts';
import type { LockRequest, ResourceLocks } from '../resource-locks.ts';
import { Meter, weightOf } from './meter.ts';
import { type RecordDeps, Tally } from './record-outcome.ts';
import { type MachineScope, verifyMachine } from './verify-machine.ts';

export interface VerifyDeps extends Pick<RecordDeps, 'catalog' | 'clock'> {
  readonly engine: JobEngine;
  readonly locks: ResourceLocks;
  readonly repositories: Repositories;
  readonly logger: Logger;
  readonly runFolder: string;
}

export type VerifySubject =
  | { readonly kind: 'backup'; readonly backup: string }
  | { readonly kind: 'vm'; readonly vm: string }
  | { readonly kind: 'repository'; readonly repository: string };

export interface VerifyOrder {
  readonly subject: VerifySubject;
  /** Take marks of earlier checks away where everything reads well now. */
  readonly clear: boolean;
  /** Null: as fast as it goes. */
  readonly mibPerSecond: number | null;
}

/** Two hash faster than one storage daemon reads. */
const WORKERS = 2;

/** Nobody else looks at these restore points meanwhile; the scrub gives way. */
export const verifyResource = (repositoryId: string, contextId: string) =>
  `verify:${repositoryId}/${contextId}`;

interface Scope {
  readonly machines: readonly MachineScope[];
  readonly name: string;
  readonly vmName: string | null;
  readonly backupId: string | null;
}

/**
 * Starts comparing restore points with their digests.
 * @throws BACKUP_UNKNOWN, BACKUP_NOT_COMPLETE, VM_UNKNOWN, REPOSITORY_UNKNOWN, NOTHING_TO_VERIFY, VERIFY_BUSY
 */
export async function startVerify(deps: VerifyDeps, order: VerifyOrder): Promise<Job> {
  const scope = scopeOf(deps, order);
  const jobId = deps.engine.newId();
  const release = await deps.locks.acquireSoon(jobId, scope.machines.flatMap(locksOf));
  const tally = new Tally();
  try {
    return deps.engine.submit(jobId, {
      kind: 'verify',
      vmName: scope.vmName,
      backupId: scope.backupId,
      request: { ...order.subject, clear: order.clear, mib_per_second: order.mibPerSecond },
      isBackground: true,
      run: (context) => runVerify(deps, order, scope, tally, context),
      ended: (job) => {
        release();
        deps.catalog.events.add({
          ...endOf(job, 'verify', {
            completed: `${scope.name} was verified: ${tally.checked} disks of restore points are as they were backed up.`,
            cancelled: `The verification of ${scope.name} was cancelled after ${tally.checked} disks.`,
            failed: `The verification of ${scope.name} failed: `,
          }),
          subject: scope.vmName ?? scope.name,
          data: { job_id: job.id, checked: tally.checked, bad: tally.bad, bytes: tally.bytes },
        });
      },
    });
  } catch (error) {
    release();
    throw error;
  }
}

function locksOf({ vm, repository }: MachineScope): LockRequest[] {
  return [
    {
      resource: `repository:${repository.id}`,
      exclusive: false,
      busy: (holder) => new SendenseError('REPOSITORY_BUSY', { repository: repository.name, holder }),
    },
    {
      resource: verifyResource(repository.id, vm.contextId),
      exclusive: true,
      busy: (holder) => new SendenseError('VERIFY_BUSY', { vm: vm.name, holder }),
    },
  ];
}

async function runVerify(
  deps: VerifyDeps,
  order: VerifyOrder,
  scope: Scope,
  tally: Tally,
  context: JobContext,
): Promise<void> {
  context.setPhase('verifying');
  const { signal } = context;
  const meter = new Meter(totalBytes(deps, scope), Date.now());
  await using pool = new DigestPool(SLOTS, WORKERS);
  await using views = await ChainViews.start({ ...deps, isIdle: false });
  for (const machine of scope.machines) {
    await verifyMachine(
      {
        ...deps,
        clear: order.clear,
        tally,
        pool,
        views,
        pace: paceOf(order.mibPerSecond),
        holder: context.jobId,
        signal,
        warn: (text) => context.warn(text),
        onProgress: (weight, fraction, bytes) => {
          meter.advance(weight, fraction, bytes);
          context.setProgress(meter.report(Date.now()));
        },
        onPoint: (weight) => {
          meter.pointDone(weight);
          context.setProgress(meter.report(Date.now()));
          context.setResult(tally.result());
        },
      },
      machine,
    );
  }
  context.setResult(tally.result());
  for (const { backupId, diskId } of tally.marked)
    context.warn(
      `Disk ${diskId} of ${backupId} reads well, but an earlier check found it damaged. If the cause is known and gone: sendense-ctl verify backup ${backupId} --clear`,
    );
  if (tally.placesTotal === 0) return;
  const [first] = tally.places;
  throw new SendenseError('VERIFY_FAILED', {
    bad: tally.bad,
    checked: tally.checked,
    job: context.jobId,
    places: tally.placesTotal,
    detail: first
      ? [first.backupId, first.layer, first.detail].filter((part) => part !== null).join(', ')
      : '',
  });
}

function totalBytes({ catalog }: VerifyDeps, { machines }: Scope): number {
  let total = 0;
  for (const { vm, repository, backupIds, depth } of machines) {
    const history = catalog.backups.completed(vm.contextId, repository.id);
    for (const backup of history)
      if (backupIds === null || backupIds.has(backup.id))
        for (const disk of backup.disks) total += weightOf(history, disk, depth);
  }
  return total;
}

function scopeOf(deps: VerifyDeps, { subject, clear }: VerifyOrder): Scope {
  const { catalog, repositories } = deps;
  if (subject.kind === 'backup') {
    const backup = findCompleted(catalog, subject.backup);
    const vm = catalog.vms.byContext(backup.contextId);
    if (!vm) throw new SendenseError('VM_UNKNOWN', { vm: backup.vmName });
    const repository = repositories.byId(backup.repositoryId);
    // a mark belongs to a layer, so whoever clears it must look at each layer of the chain as a whole
    const machine: MachineScope = clear
      ? {
          vm,
          repository,
          backupIds: chainOf(catalog.backups.completed(vm.contextId, repository.id), backup),
          depth: 'own',
        }
      : { vm, repository, backupIds: new Set([backup.id]), depth: 'all' };
    return { machines: [machine], name: backup.id, vmName: vm.name, backupId: backup.id };
  }
  const vms = subject.kind === 'vm' ? [findVm(catalog, subject.vm)] : catalog.vms.all();
  const places = subject.kind === 'vm' ? repositories.all() : [repositories.byName(subject.repository)];
  const machines = vms.flatMap((vm) =>
    places
      .filter((repository) => hasPoints(deps, vm, repository))
      .map((repository): MachineScope => ({ vm, repository, backupIds: null, depth: 'own' })),
  );
  const name =
    subject.kind === 'vm' ? `The machine "${subject.vm}"` : `The repository "${subject.repository}"`;
  if (machines.length === 0) throw new SendenseError('NOTHING_TO_VERIFY', { subject: name });
  return { machines, name, vmName: subject.kind === 'vm' ? subject.vm : null, backupId: null };
}

const hasPoints = ({ catalog }: VerifyDeps, vm: Vm, repository: Repository): boolean =>
  catalog.backups.list({
    contextId: vm.contextId,
    repositoryId: repository.id,
    status: 'completed',
    limit: 1,
  }).length > 0;

/** This backup and all that its disks stand on. */
function chainOf(history: readonly Backup[], backup: Backup): Set<string> {
  const ids = new Set<string>();
  const add = (id: string | null) => {
    const member = id === null || ids.has(id) ? undefined : history.find((candidate) => candidate.id === id);
    if (!member) return;
    ids.add(member.id);
    for (const disk of member.disks) add(disk.parentBackupId);
  };
  add(backup.id);
  return ids;
}
