import { SendenseError } from '../../base/sendense-error.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import type { Job } from '../../catalog/jobs.ts';
import type { OutputFormat } from '../../qemu/qemu-img.ts';
import { checkOutputPath } from '../../restore/output-path.ts';
import { restoreDisk } from '../../restore/restore-disk.ts';
import { TransferProgress } from '../backup/transfer-progress.ts';
import { endOf } from '../end-of-job.ts';
import { findCompleted } from '../find-backup.ts';
import type { JobEngine } from '../job-engine.ts';
import type { Repositories } from '../repository/repositories.ts';
import { chainResource, type ResourceLocks } from '../resource-locks.ts';
import { readableDisks } from './read-chain.ts';

export interface RestoreDeps {
  readonly catalog: Catalog;
  readonly engine: JobEngine;
  readonly locks: ResourceLocks;
  readonly repositories: Repositories;
  /** Folders of the appliance itself, never an output. */
  readonly ownFolders: readonly string[];
}

export interface RestoreDiskOrder {
  readonly backup: string;
  readonly diskIndex: number;
  readonly output: string;
  readonly format: OutputFormat;
  readonly overwrite: boolean;
}

/**
 * Starts writing one disk of a restore point to a file.
 * @throws OUTPUT_INVALID, OUTPUT_EXISTS, BACKUP_UNKNOWN, BACKUP_NOT_COMPLETE, DISK_UNKNOWN, LAYER_…, BACKUP_BUSY, DISK_BUSY
 */
export async function startRestoreDisk(deps: RestoreDeps, order: RestoreDiskOrder): Promise<Job> {
  const rules = {
    overwrite: order.overwrite,
    forbidden: [...deps.ownFolders, ...deps.repositories.all().map((repository) => repository.root)],
  };
  const output = await checkOutputPath(order.output, rules);
  const backup = findCompleted(deps.catalog, order.backup);
  const jobId = deps.engine.newId();
  const release = await deps.locks.acquireSoon(jobId, [
    {
      resource: chainResource(backup.repositoryId, backup.contextId),
      exclusive: false,
      busy: (holder) => new SendenseError('BACKUP_BUSY', { backup: backup.id, holder }),
    },
    {
      resource: `backup:${backup.id}`,
      exclusive: false,
      busy: (holder) => new SendenseError('BACKUP_BUSY', { backup: backup.id, holder }),
    },
    // a disk that is being backed up must not be overwritten meanwhile
    {
      resource: `disk:${output}`,
      exclusive: true,
      busy: (holder) => new SendenseError('DISK_BUSY', { path: output, holder }),
    },
  ]);
  try {
    const [disk] = await readableDisks(deps, backup, order.diskIndex);
    const sizeBytes =
      backup.disks.find((candidate) => candidate.diskIndex === order.diskIndex)?.sizeBytes ?? 0;
    return deps.engine.submit(jobId, {
      kind: 'restore-disk',
      vmName: backup.vmName,
      backupId: backup.id,
      request: { disk_index: order.diskIndex, output, format: order.format },
      run: async (context) => {
        context.setPhase('restoring');
        const progress = new TransferProgress(sizeBytes, Date.now());
        await restoreDisk({
          chain: disk?.chain ?? [],
          output,
          format: order.format,
          ...rules,
          onProgress: (fraction) => {
            const bytes = Math.round(fraction * sizeBytes);
            progress.update({ processedBytes: bytes, readBytes: bytes, writtenBytes: bytes, reconnects: 0 });
            context.setProgress(progress.report(Date.now()));
          },
          signal: context.signal,
        });
      },
      ended: (job) => {
        release();
        const what = `disk ${order.diskIndex} of ${backup.id}`;
        deps.catalog.events.add({
          ...endOf(job, 'restore', {
            completed: `D${what.slice(1)} was restored to ${output}.`,
            cancelled: `Restoring ${what} was cancelled.`,
            failed: `Restoring ${what} failed: `,
          }),
          subject: backup.vmName,
          data: { backup_id: backup.id, output },
        });
      },
    });
  } catch (error) {
    release();
    throw error;
  }
}
