import type { NbdEndpoint } from '../client/nbd-connection.ts';
import type { TransferTuning } from '../exports/export-backend.ts';
import type { DigestPool } from './digest-pool.ts';
import type { Resume } from './flush-ledger.ts';
import type { ParentView } from './plan/block-plan.ts';
import type { BlockReader } from './read/block-reader.ts';
import type { RowSink } from './rows/rows.ts';
import type { Throttle } from './throttle.ts';
import type { WrittenMap } from './written-map.ts';

export interface MoveProgress {
  /** Bytes of the disk that are dealt with, however. */
  processedBytes: number;
  readBytes: number;
  writtenBytes: number;
  reconnects: number;
}

export interface MoveDeps {
  readonly source: BlockReader;
  readonly target: NbdEndpoint;
  readonly tuning: TransferTuning;
  readonly parent: ParentView | null;
  /** Name of each parent layer, newest first, for error messages. */
  readonly parentLayers: readonly string[];
  /** Must have `slotsFor(tuning, parent)` slots. */
  readonly pool: DigestPool;
  readonly rows: RowSink;
  readonly resume: Resume;
  readonly throttle: Throttle;
  readonly written: WrittenMap;
  readonly progress: MoveProgress;
  readonly signal: AbortSignal;
}
