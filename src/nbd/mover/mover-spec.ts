import type { ErrorFields } from '../../base/sendense-error.ts';
import type { NbdEndpoint } from '../client/nbd-connection.ts';
import type { TransferTuning } from '../exports/export-backend.ts';
import type { Resume } from './flush-ledger.ts';
import type { MoveProgress } from './move-deps.ts';
import type { SourceSpec } from './read/source-spec.ts';
import type { RowBatch } from './rows/row-batches.ts';

/** The job of a mover process: one line of JSON on its stdin. */
export interface MoverSpec {
  readonly source: SourceSpec;
  readonly target: NbdEndpoint;
  readonly tuning: TransferTuning;
  /** Row files and names of the parent layers, newest first; null for a full. */
  readonly parent: {
    readonly rowFiles: readonly string[];
    readonly layers: readonly string[];
    readonly sizeBytes: number;
  } | null;
  /** Where the map of written steps goes; null: nobody wants it. */
  readonly writtenFile: string | null;
  /** Absent: from the beginning. */
  readonly resume?: Resume;
}

/** Lines of JSON on the mover's stdin after its job. */
export interface MoverOrder {
  /** Of what goes to the export from now on; 0: no limit. */
  readonly bytesPerSecond: number;
}

/** Lines of JSON on the mover's stdout. */
export type MoverMessage =
  | { readonly type: 'progress'; readonly progress: MoveProgress }
  | { readonly type: 'rows'; readonly batch: RowBatch }
  | { readonly type: 'done'; readonly progress: MoveProgress }
  | { readonly type: 'failed'; readonly code: string; readonly fields: ErrorFields };
