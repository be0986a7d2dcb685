import { join } from 'node:path';
import pLimit from 'p-limit';
import { type Clock, compactTimestamp } from '../../base/clock.ts';
import { SendenseError } from '../../base/sendense-error.ts';
import type { Job } from '../../catalog/jobs.ts';
import type { Backup } from '../../catalog/points/backup-rows.ts';
import { storeBootTest } from '../../repository/boot-tests/boot-tests.ts';
import type { BootTestDocument } from '../../repository/boot-tests/document.ts';
import { REPOSITORY_FORMAT } from '../../repository/documents.ts';
import { confirmWritable } from '../../repository/open-repository.ts';
import type { BootExpectation, BootOutcome, BootShape } from '../../restore/boot/boot-request.ts';
import { linePattern } from '../../restore/boot/line-pattern.ts';
import { type BootPlace, runBoot, withBootFolders } from '../../restore/boot/run-boot.ts';
import { endOf } from '../end-of-job.ts';
import { findCompleted } from '../find-backup.ts';
import type { JobContext } from '../job-work.ts';
import { type ReadableDisk, readableDisks } from '../restore/read-chain.ts';
import { type RestoreDeps, restoreLocks } from '../restore/restore-deps.ts';
import { recordBootTest } from './adopt-boot-tests.ts';

export interface BootTestDeps extends Omit<RestoreDeps, 'restoreTools' | 'ownFolders'> {
  readonly clock: Clock;
  readonly boots: BootSettings;
}

export interface BootSettings
  extends Pick<BootPlace, 'logger' | 'overlayLimitBytes' | 'vmFolder' | 'kvmFile'> {
  /** Sockets go to `<job>` in it. */
  readonly runFolder: string;
  /** What guests write, and evidence until it is stored, go to `<job>` in it: a disk, never memory. */
  readonly stateFolder: string;
  /** Tests that are kept of each restore point. */
  readonly keep: number;
  /** Lets so many boots run at once; the others wait. */
  readonly lane: ReturnType<typeof pLimit>;
  readonly toolVersions: Readonly<Record<string, string>>;
}

/** @param max boots at once */
export const bootLane = (max: number): BootSettings['lane'] => pLimit(max);

export interface BootTestOrder extends BootShape, BootExpectation {
  readonly backup: string;
}

/**
 * Starts booting a restore point to see whether it comes up. A job whose machine does not is failed with
 * BOOT_TEST_FAILED; what was seen is stored beside the restore point either way.
 * @throws BACKUP_UNKNOWN, BACKUP_NOT_COMPLETE, BACKUP_BUSY, DISK_UNKNOWN, LAYER_…, REQUEST_INVALID, REPOSITORY_…
 */
export async function startBootTest(deps: BootTestDeps, order: BootTestOrder): Promise<Job> {
  if (order.serial !== null) linePattern(order.serial);
  const backup = findCompleted(deps.catalog, order.backup);
  // not only after half an hour of booting
  await confirmWritable(deps.repositories.byId(backup.repositoryId));
  const jobId = deps.engine.newId();
  // held to the end: nobody may merge layers while a machine reads them, or look for orphans while it is stored
  const release = await deps.locks.acquireSoon(jobId, restoreLocks(backup, []));
  try {
    const disks = await readableDisks(deps, backup, null);
    return deps.engine.submit(jobId, {
      kind: 'boot-test',
      lane: (start) => deps.boots.lane(start),
      vmName: backup.vmName,
      backupId: backup.id,
      request: { ...order, backup: backup.id },
      run: (context) => test(deps, order, backup, disks, context),
      ended: (job) => {
        release();
        deps.catalog.events.add({
          ...endOf(job, 'boot-test', {
            completed: `${backup.id} was booted and came up.`,
            cancelled: `The boot test of ${backup.id} was cancelled.`,
            failed: `The boot test of ${backup.id} failed: `,
          }),
          subject: backup.vmName,
          data: { backup_id: backup.id, job_id: jobId },
        });
      },
    });
  } catch (error) {
    release();
    throw error;
  }
}

async function test(
  deps: BootTestDeps,
  order: BootTestOrder,
  backup: Backup,
  disks: readonly ReadableDisk[],
  context: JobContext,
): Promise<void> {
  const { boots, clock } = deps;
  const runFolder = join(boots.runFolder, context.jobId);
  const overlayFolder = join(boots.stateFolder, context.jobId);
  const evidenceFolder = join(overlayFolder, 'evidence');
  await withBootFolders([runFolder, overlayFolder, evidenceFolder], async () => {
    const testedAt = clock.now();
    context.setPhase('booting');
    const outcome = await runBoot(
      { ...boots, runFolder, overlayFolder, evidenceFolder },
      {
        ...order,
        disks,
        signal: context.signal,
        onStarted: (accelerator) => context.fact('booting', { accelerator }),
      },
    );
    context.setPhase('storing');
    const document = documentOf(deps, order, backup, { jobId: context.jobId, testedAt, outcome, disks });
    const stored = await store(deps, backup, document, evidenceFolder, testedAt);
    context.setResult({ ...stored, ...resultOf(document) });
    if (outcome.outcome === 'failed')
      throw new SendenseError('BOOT_TEST_FAILED', { backup: backup.id, reason: outcome.reason });
  });
}

async function store(
  deps: BootTestDeps,
  backup: Backup,
  document: BootTestDocument,
  evidence: string,
  testedAt: Date,
): Promise<{ time: string; folder: string }> {
  const { catalog, repositories, boots } = deps;
  const repository = repositories.byId(backup.repositoryId);
  await confirmWritable(repository);
  const vm = catalog.vms.byContext(backup.contextId);
  if (!vm) throw new SendenseError('VM_UNKNOWN', { vm: backup.vmName });
  const { root } = repository;
  const test = { time: compactTimestamp(testedAt), evidence, document };
  const time = await storeBootTest(root, vm.vmUuid, test, boots.keep);
  recordBootTest(catalog, document);
  return { time, folder: join(root, vm.vmUuid, 'boot-tests', backup.id, time) };
}

function documentOf(
  { boots }: BootTestDeps,
  order: BootTestOrder,
  backup: Backup,
  test: { jobId: string; testedAt: Date; outcome: BootOutcome; disks: readonly ReadableDisk[] },
): BootTestDocument {
  const { outcome } = test;
  return {
    format: REPOSITORY_FORMAT,
    backup_id: backup.id,
    job_id: test.jobId,
    tested_at: test.testedAt.toISOString(),
    outcome: outcome.outcome,
    reason: outcome.reason,
    met: outcome.met.map(({ condition, afterMs }) => ({ condition, after_ms: afterMs })),
    took_ms: outcome.tookMs,
    restarts: outcome.restarts,
    expected: {
      serial: order.serial,
      agent: order.agent,
      screen_stable_s: order.screenStableS,
      timeout_s: order.timeoutMs / 1000,
    },
    machine: {
      accelerator: outcome.accelerator,
      memory_mib: order.memoryMib,
      cpus: order.cpus,
      firmware: order.firmware,
      disk_bus: order.diskBus,
      disks: test.disks.length,
    },
    screens: outcome.screens.map(({ file, afterMs }) => ({ file, after_ms: afterMs })),
    serial_bytes_dropped: outcome.serialBytesDropped,
    tool_versions: { ...boots.toolVersions },
  };
}

const resultOf = ({ outcome, reason, met, took_ms, machine, restarts }: BootTestDocument) => ({
  outcome,
  reason,
  met,
  took_ms,
  restarts,
  accelerator: machine.accelerator,
});
