import type { JobProgress } from '../../catalog/jobs.ts';
import type { Backup, BackupDisk } from '../../catalog/points/backup-rows.ts';
import type { Depth } from '../../repository/verify/inspect-disk.ts';
import { TransferProgress } from '../backup/carry/transfer-progress.ts';

/**
 * Stored bytes that are looked at for one disk of a restore point. Pure.
 * @param history all backups of the machine in the repository
 */
export function weightOf(history: readonly Backup[], disk: BackupDisk, depth: Depth): number {
  let bytes = disk.fileBytes;
  for (let parent = depth === 'all' ? disk.parentBackupId : null; parent !== null; ) {
    const below = history
      .find((backup) => backup.id === parent)
      ?.disks.find((candidate) => candidate.diskIndex === disk.diskIndex);
    bytes += below?.fileBytes ?? 0;
    parent = below?.parentBackupId ?? null;
  }
  return bytes;
}

/** Progress in stored bytes: what the guest's disks would be is often many times as much. */
export class Meter {
  readonly #progress: TransferProgress;
  #done = 0;
  #underWay = 0;
  #read = 0;

  constructor(totalBytes: number, startedMs: number) {
    this.#progress = new TransferProgress(totalBytes, startedMs);
  }

  /** @param readBytes guest bytes, since the last call */
  advance(weight: number, fraction: number, readBytes: number): void {
    // requests end in any order
    this.#underWay = Math.max(this.#underWay, weight * fraction);
    this.#read += readBytes;
  }

  pointDone(weight: number): void {
    this.#done += weight;
    this.#underWay = 0;
  }

  report(nowMs: number): JobProgress {
    const processedBytes = Math.round(this.#done + this.#underWay);
    this.#progress.update({ processedBytes, readBytes: this.#read, writtenBytes: this.#read, reconnects: 0 });
    return this.#progress.report(nowMs);
  }
}
