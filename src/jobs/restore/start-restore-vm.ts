import { lstat, mkdir, readFile, realpath } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { removeDurably, writeJsonDurably } from '../../base/durable-file.ts';
import { errnoOf, SendenseError } from '../../base/sendense-error.ts';
import type { Job } from '../../catalog/jobs.ts';
import type { OutputFormat } from '../../qemu/qemu-img.ts';
import { checkOutputPath } from '../../restore/output-path.ts';
import { restoreDisk } from '../../restore/whole-disk/restore-disk.ts';
import type { ResumeRule } from '../../restore/whole-disk/restore-request.ts';
import { TransferProgress } from '../backup/carry/transfer-progress.ts';
import { endOf } from '../end-of-job.ts';
import { findCompleted } from '../find-backup.ts';
import { readableDisks } from './read-chain.ts';
import {
  forbiddenPlaces,
  type RestoreDeps,
  restoreLocks,
  restorePointOf,
  sizeOfDisk,
} from './restore-deps.ts';

export interface RestoreVmOrder {
  readonly backup: string;
  /** A folder, made when absent. */
  readonly output: string;
  readonly format: OutputFormat;
  readonly overwrite: boolean;
  readonly resume: ResumeRule;
  readonly keepPartial: boolean;
}

/** What lies in the folder while not all disks are there. */
const JOURNAL = '.sendense-restore.json';

/**
 * Starts writing all disks of a restore point into a folder, as `disk-0.raw`, `disk-1.raw` …, one after the other. A
 * disk that an interrupted run had finished is not written again.
 * @throws OUTPUT_INVALID, OUTPUT_EXISTS, BACKUP_…, LAYER_…, DISK_BUSY
 */
export async function startRestoreVm(deps: RestoreDeps, order: RestoreVmOrder): Promise<Job> {
  const { output, format } = order;
  const backup = findCompleted(deps.catalog, order.backup);
  const forbidden = forbiddenPlaces(deps);
  const folder = await checkFolder(output, forbidden);
  const jobId = deps.engine.newId();
  const fileOf = (diskIndex: number) => join(folder, `disk-${diskIndex}.${format}`);
  const outputs = backup.disks.map(({ diskIndex }) => fileOf(diskIndex));
  const release = await deps.locks.acquireSoon(jobId, restoreLocks(backup, outputs));
  try {
    const disks = await readableDisks(deps, backup, null);
    const points = disks.map((disk) => restorePointOf(backup, disk));
    const finished =
      order.resume === 'never' ? new Set<number>() : await finishedDisks(folder, points, fileOf);
    const overwrite = order.overwrite;
    for (const { diskIndex } of disks)
      if (!finished.has(diskIndex)) await checkFile(fileOf(diskIndex), { overwrite, forbidden }, folder);
    const left = points.filter(({ diskIndex }) => !finished.has(diskIndex));
    const total = left.reduce((sum, { diskIndex }) => sum + sizeOfDisk(backup, diskIndex), 0);
    return deps.engine.submit(jobId, {
      kind: 'restore-vm',
      vmName: backup.vmName,
      backupId: backup.id,
      request: { output: folder, format, outputs },
      run: async (context) => {
        context.setPhase('restoring');
        await mkdir(folder, { mode: 0o700 }).catch((error: unknown) => {
          if (errnoOf(error) !== 'EEXIST') throw error;
        });
        const progress = new TransferProgress(total, Date.now());
        const done: Finished[] = [];
        for (const point of points.filter(({ diskIndex }) => finished.has(diskIndex)))
          done.push(await fingerprint(point.key, fileOf(point.diskIndex)));
        for (const point of left) {
          await restoreDisk(deps.restoreTools, {
            point,
            output: fileOf(point.diskIndex),
            format,
            overwrite,
            differential: false,
            resume: order.resume === 'never' ? 'never' : 'auto',
            keepPartial: order.keepPartial,
            forbidden,
            onProgress: (moved) => {
              progress.update({ ...moved, reconnects: 0 });
              context.setProgress(progress.report(Date.now()));
            },
            signal: context.signal,
          });
          progress.diskDone();
          done.push(await fingerprint(point.key, fileOf(point.diskIndex)));
          if (done.length < points.length) await writeJsonDurably(join(folder, JOURNAL), { format: 1, done });
        }
        await removeDurably(join(folder, JOURNAL));
        context.setResult({ output: folder, files: outputs, skippedDisks: [...finished] });
      },
      ended: (job) => {
        release();
        deps.catalog.events.add({
          ...endOf(job, 'restore', {
            completed: `All disks of ${backup.id} were restored to ${folder}.`,
            cancelled: `Restoring the disks of ${backup.id} was cancelled.`,
            failed: `Restoring the disks of ${backup.id} failed: `,
          }),
          subject: backup.vmName,
          data: { backup_id: backup.id, output: folder },
        });
      },
    });
  } catch (error) {
    release();
    throw error;
  }
}

/** @returns the folder with all symlinks resolved; it need not exist, the one above it must */
async function checkFolder(output: string, forbidden: readonly string[]): Promise<string> {
  const refuse = (detail: string) => new SendenseError('OUTPUT_INVALID', { path: output, detail });
  if (!output.startsWith('/')) throw refuse('it is not absolute');
  const real = await realpath(output).catch(() => null);
  if (real === null)
    return await checkOutputPath(output.replace(/\/+$/, ''), { overwrite: false, forbidden });
  if (!(await lstat(real)).isDirectory()) throw refuse('it exists and is no folder');
  // whether files may be made in it is what matters
  return dirname(await checkOutputPath(join(real, 'disk'), { overwrite: true, forbidden }));
}

async function checkFile(
  path: string,
  rules: { overwrite: boolean; forbidden: readonly string[] },
  folder: string,
): Promise<void> {
  if ((await lstat(folder).catch(() => null)) !== null) await checkOutputPath(path, rules);
}

interface Finished {
  readonly point: string;
  readonly name: string;
  readonly inode: string;
  readonly size: number;
  readonly mtimeMs: number;
}

async function fingerprint(point: string, path: string): Promise<Finished> {
  const { dev, ino, size, mtimeMs } = await lstat(path);
  return { point, name: basename(path), inode: `${dev}:${ino}`, size, mtimeMs };
}

/** Disks whose files are exactly as an earlier run of the same restore point left them. */
async function finishedDisks(
  folder: string,
  points: readonly { readonly diskIndex: number; readonly key: string }[],
  fileOf: (diskIndex: number) => string,
): Promise<Set<number>> {
  const found = new Set<number>();
  const text = await readFile(join(folder, JOURNAL), 'utf8').catch(() => null);
  if (text === null) return found;
  let done: readonly Finished[];
  try {
    done = (JSON.parse(text) as { done: Finished[] }).done;
  } catch {
    return found;
  }
  for (const { diskIndex, key } of points) {
    const now = await fingerprint(key, fileOf(diskIndex)).catch(() => null);
    if (now !== null && done.some((one) => JSON.stringify(one) === JSON.stringify(now))) found.add(diskIndex);
  }
  return found;
}
