import { hasCode, SendenseError } from '../../base/sendense-error.ts';
import type { Job } from '../../catalog/jobs.ts';
import type { OutputFormat } from '../../qemu/qemu-img.ts';
import { holdBlockDevice, namesOf } from '../../restore/whole-disk/block-device.ts';
import { restoreDisk } from '../../restore/whole-disk/restore-disk.ts';
import { journalPath, readJournal } from '../../restore/whole-disk/restore-journal.ts';
import type { ResumeRule } from '../../restore/whole-disk/restore-request.ts';
import { checkTargetSize, resolveTarget, type WholeDiskTarget } from '../../restore/whole-disk/target.ts';
import { TransferProgress } from '../backup/carry/transfer-progress.ts';
import { endOf } from '../end-of-job.ts';
import { type FoundDisk, findDisk, openDiskPoint } from './open-disk-point.ts';
import { forbiddenPlaces, type RestoreDeps } from './restore-deps.ts';

export interface RestoreDiskOrder {
  readonly backup: string;
  readonly diskIndex: number;
  readonly output: string;
  readonly format: OutputFormat;
  readonly overwrite: boolean;
  readonly differential: boolean;
  readonly resume: ResumeRule;
  readonly keepPartial: boolean;
  /** For a device or an NBD export: the output once more. */
  readonly confirmDevice: string | null;
}

/** What a restore would do, before anybody decides. */
export interface RestorePlan {
  readonly backupId: string;
  readonly kind: WholeDiskTarget['kind'];
  readonly path: string;
  readonly diskBytes: number;
  /** Null for a new file. */
  readonly targetBytes: number | null;
  readonly model: string | null;
  readonly contents: readonly string[];
  /** A restore to this target did not end; null: there is none. */
  readonly interrupted: { readonly backupId: string; readonly doneBytes: number } | null;
}

type Placed = Pick<RestoreDiskOrder, 'backup' | 'diskIndex' | 'output' | 'overwrite' | 'differential'>;

/** Changes nothing. @throws OUTPUT_…, TARGET_FAILED, BACKUP_UNKNOWN, BACKUP_NOT_COMPLETE */
export async function planRestoreDisk(deps: RestoreDeps, order: Placed): Promise<RestorePlan> {
  const { target, found } = await place(deps, order);
  const device = target.kind === 'device' ? target.device : null;
  const journal = await readJournal(
    target.kind === 'file'
      ? journalPath[order.differential ? 'ofFileInPlace' : 'ofPartial'](target.path)
      : journalPath.ofRemote(deps.restoreTools.stateFolder, target.path),
  );
  return {
    backupId: found.backupId,
    kind: target.kind,
    path: target.path,
    diskBytes: found.sizeBytes,
    targetBytes: target.kind === 'nbd' ? target.sizeBytes : (device?.sizeBytes ?? null),
    model: device?.model ?? null,
    contents: device?.contents ?? [],
    interrupted: journal === null ? null : { backupId: journal.backup_id, doneBytes: journal.done_bytes },
  };
}

async function place(
  deps: RestoreDeps,
  order: Placed,
): Promise<{ target: WholeDiskTarget; found: FoundDisk }> {
  const { output, overwrite, differential } = order;
  const forbidden = forbiddenPlaces(deps);
  const target = await resolveTarget(output, { overwrite, forbidden, isInPlace: differential });
  return { target, found: findDisk(deps, order.backup, order.diskIndex) };
}

/**
 * Starts writing one disk of a restore point to a file, a block device or an NBD export.
 * @throws OUTPUT_…, TARGET_FAILED, BACKUP_UNKNOWN, BACKUP_NOT_COMPLETE, DISK_UNKNOWN, LAYER_…, BACKUP_BUSY, DISK_BUSY
 */
export async function startRestoreDisk(deps: RestoreDeps, order: RestoreDiskOrder): Promise<Job> {
  const { diskIndex, output, format, differential } = order;
  const { target } = await place(deps, order);
  const names = target.kind === 'device' ? await namesOf(target.device) : [target.path];
  const jobId = deps.engine.newId();
  const opened = await openDiskPoint(deps, jobId, order.backup, diskIndex, names);
  const { backupId, vmName, sizeBytes, point, release } = opened;
  try {
    await checkBefore(order, target, sizeBytes);
    return deps.engine.submit(jobId, {
      kind: 'restore-disk',
      vmName,
      backupId,
      request: { disk_index: diskIndex, output, format, differential },
      run: async (context) => {
        context.setPhase('restoring');
        const progress = new TransferProgress(sizeBytes, Date.now());
        const outcome = await restoreDisk(deps.restoreTools, {
          ...order,
          point,
          forbidden: forbiddenPlaces(deps),
          onProgress: (moved) => {
            progress.update({ ...moved, reconnects: 0 });
            context.setProgress(progress.report(Date.now()));
          },
          signal: context.signal,
        }).catch((error: unknown) => {
          const isChanged = target.kind !== 'file' || differential;
          if (isChanged && !hasCode(error, ...refusals)) context.warn(incomplete(output, backupId));
          throw error;
        });
        context.setResult({ ...outcome, output });
      },
      ended: (job) => {
        release();
        const what = `disk ${diskIndex} of ${backupId}`;
        deps.catalog.events.add({
          ...endOf(job, 'restore', {
            completed: `D${what.slice(1)} was restored to ${output}.`,
            cancelled: `Restoring ${what} was cancelled.`,
            failed: `Restoring ${what} failed: `,
          }),
          subject: vmName,
          data: { backup_id: backupId, output },
        });
      },
    });
  } catch (error) {
    release();
    throw error;
  }
}

/** Errors from before the first byte is written. */
const refusals = [
  'OUTPUT_INVALID',
  'OUTPUT_EXISTS',
  'OUTPUT_IN_USE',
  'OUTPUT_TOO_SMALL',
  'RESUME_NOTHING',
] as const;

const incomplete = (output: string, backupId: string) =>
  `${output} is incomplete: part of it is ${backupId}, part what it was before. Give the same command again.`;

/** So that nobody waits for a job to be told what is known already. */
async function checkBefore(
  order: RestoreDiskOrder,
  target: WholeDiskTarget,
  sizeBytes: number,
): Promise<void> {
  if (target.kind === 'file') return;
  checkTargetSize(target, target.kind === 'nbd' ? target.sizeBytes : target.device.sizeBytes, sizeBytes);
  if (target.kind === 'device') await (await holdBlockDevice(target.device)).close();
  if (order.confirmDevice === order.output) return;
  const contents =
    target.kind === 'nbd'
      ? 'nobody here knows what'
      : [target.device.model, ...target.device.contents].filter((text) => text !== null).join('; ');
  throw new SendenseError('OUTPUT_UNCONFIRMED', {
    path: order.output,
    contents: contents === '' ? 'nothing that is known' : contents,
  });
}
