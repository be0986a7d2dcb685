import type { NbdEndpoint } from '../client/nbd-connection.ts';

/** The job of bringing an existing target to a restore point: one line of JSON on the mover's stdin. */
export interface PatchSpec {
  readonly task: 'patch';
  /** The restore point, read-only. */
  readonly source: NbdEndpoint;
  /** The target, through which everything is written. */
  readonly target: NbdEndpoint;
  /** Where the target's bytes can also be read directly; null: only over NBD. */
  readonly targetFile: string | null;
  /** Size of the restore point's disk; the target may be larger, what lies behind is left alone. */
  readonly sizeBytes: number;
  /** Only the beginning up to here is looked at. */
  readonly endBytes: number;
  /** Row files of the chain, newest first. */
  readonly rowFiles: readonly string[];
}
