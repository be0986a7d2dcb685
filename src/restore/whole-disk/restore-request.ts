import type { Logger } from '../../base/logger.ts';
import type { OutputFormat } from '../../qemu/qemu-img.ts';

/** Which bytes are wanted. */
export interface RestorePoint {
  readonly backupId: string;
  readonly diskIndex: number;
  /** Differs between any two restore points, also after one was deleted and its id used again. */
  readonly key: string;
  /** Absolute paths, newest layer first, the full last. */
  readonly chain: readonly string[];
  /** Row files of the same layers that were found sound; empty when one is not. */
  readonly soundRows: () => Promise<readonly string[]>;
}

/** `auto`: goes on when there is something of the same restore point; `required`: or fails; `never`: begins anew. */
export type ResumeRule = 'auto' | 'required' | 'never';

export interface RestoreDiskRequest {
  readonly point: RestorePoint;
  /** Absolute path of a file or block device, or an NBD URI. */
  readonly output: string;
  readonly format: OutputFormat;
  readonly overwrite: boolean;
  /** Only what differs from what the existing target holds is written. */
  readonly differential: boolean;
  readonly resume: ResumeRule;
  /** What is written stays when somebody cancels. */
  readonly keepPartial: boolean;
  /** Folders and files that must not be written: repositories, the home, disks that are backed up. */
  readonly forbidden: readonly string[];
  readonly onProgress: (progress: RestoreProgress) => void;
  readonly signal: AbortSignal;
}

export interface RestoreProgress {
  readonly processedBytes: number;
  /** Read from the backup. */
  readonly readBytes: number;
  readonly writtenBytes: number;
}

export interface RestoreTools {
  readonly logger: Logger;
  /** Journals of devices and exports; made when absent. */
  readonly stateFolder: string;
  /** Sockets of a differential restore go to a folder in it. */
  readonly runFolder: string;
  /** The program `sendense-mover`. */
  readonly moverFile: string;
  /** Most bytes between two points from which an interrupted restore can go on. */
  readonly segmentBytes: number;
}

/** What was done; null where it is not known or was not needed. */
export interface RestoreOutcome {
  /** Where an earlier try had come to; null when it began anew. */
  readonly resumedAtBytes: number | null;
  /** Bytes of the target that were read and compared. */
  readonly comparedBytes: number | null;
  /** Bytes that had to be written after comparing. */
  readonly changedBytes: number | null;
}
