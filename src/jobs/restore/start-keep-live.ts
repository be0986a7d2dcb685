import { randomUUID } from 'node:crypto';
import { SendenseError } from '../../base/sendense-error.ts';
import type { Job } from '../../catalog/jobs.ts';
import type { OutputFormat } from '../../qemu/qemu-img.ts';
import type { LiveRegistry } from '../../restore/live/live-registry.ts';
import { checkOutputPath } from '../../restore/output-path.ts';
import { restoreDisk } from '../../restore/whole-disk/restore-disk.ts';
import { removePartial } from '../../restore/whole-disk/write-file.ts';
import { TransferProgress } from '../backup/carry/transfer-progress.ts';
import { endOf } from '../end-of-job.ts';
import { findCompleted } from '../find-backup.ts';
import { forbiddenPlaces, type RestoreDeps, restoreLocks } from './restore-deps.ts';

export interface KeepDeps extends RestoreDeps {
  readonly lives: LiveRegistry;
}

export interface KeepOrder {
  readonly liveId: string;
  readonly diskIndex: number | null;
  readonly output: string;
  readonly format: OutputFormat;
  readonly overwrite: boolean;
  /** Cuts clients off. */
  readonly disconnect: boolean;
}

/**
 * Starts making an image of its own from what a writable export shows now: the restore point and everything clients
 * wrote. The disk is taken from its clients first and served again afterwards, so no write is half in it.
 * @throws LIVE_UNKNOWN, LIVE_READ_ONLY, LIVE_BUSY, DISK_UNKNOWN, OUTPUT_…, BACKUP_BUSY
 */
export async function startKeepLive(deps: KeepDeps, order: KeepOrder): Promise<Job> {
  const { liveId, format, overwrite } = order;
  const session = deps.lives.get(liveId);
  if (!session.writable)
    throw new SendenseError('LIVE_READ_ONLY', { live: liveId, backup: session.backupId });
  const { disks } = session.live;
  const disk = disks.find(({ diskIndex }) => diskIndex === (order.diskIndex ?? disks[0]?.diskIndex));
  if (disk === undefined || (order.diskIndex === null && disks.length > 1))
    throw new SendenseError('DISK_UNKNOWN', { subject: liveId, disk: order.diskIndex ?? '(say which)' });
  const forbidden = forbiddenPlaces(deps);
  const output = await checkOutputPath(order.output, { overwrite, forbidden });
  const backup = findCompleted(deps.catalog, session.backupId);
  const jobId = deps.engine.newId();
  const release = await deps.locks.acquireSoon(jobId, restoreLocks(backup, [output]));
  try {
    const serveAgain = await deps.lives.withdraw(liveId, disk.diskIndex, order.disconnect);
    try {
      return deps.engine.submit(jobId, {
        kind: 'keep-live',
        vmName: backup.vmName,
        backupId: backup.id,
        request: { live_id: liveId, disk_index: disk.diskIndex, output, format },
        run: async (context) => {
          context.setPhase('restoring');
          const progress = new TransferProgress(disk.sizeBytes, Date.now());
          try {
            await restoreDisk(deps.restoreTools, {
              point: {
                backupId: backup.id,
                diskIndex: disk.diskIndex,
                // what was written changes: no two of these are the same
                key: randomUUID(),
                chain: disk.images,
                soundRows: async () => [],
              },
              output,
              format,
              overwrite,
              differential: false,
              resume: 'never',
              keepPartial: false,
              forbidden,
              onProgress: (moved) => {
                progress.update({ ...moved, reconnects: 0 });
                context.setProgress(progress.report(Date.now()));
              },
              signal: context.signal,
            });
          } catch (error) {
            await removePartial(output);
            throw error;
          }
          context.setResult({ output, liveId });
        },
        ended: (job) => {
          release();
          void serveAgain().catch((error: unknown) =>
            deps.restoreTools.logger.error({ live: liveId, err: error }, 'an export is not served again'),
          );
          deps.catalog.events.add({
            ...endOf(job, 'live.keep', {
              completed: `Disk ${disk.diskIndex} of ${liveId} with all that was written to it is ${output}.`,
              cancelled: `Keeping disk ${disk.diskIndex} of ${liveId} was cancelled.`,
              failed: `Keeping disk ${disk.diskIndex} of ${liveId} failed: `,
            }),
            subject: backup.vmName,
            data: { backup_id: backup.id, live_id: liveId, output },
          });
        },
      });
    } catch (error) {
      await serveAgain();
      throw error;
    }
  } catch (error) {
    release();
    throw error;
  }
}
