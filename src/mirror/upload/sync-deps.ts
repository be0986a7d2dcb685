import type { MirrorIndex } from '../../catalog/mirrors/mirror-index.ts';
import type { ChainDocument } from '../documents.ts';
import type { Mirror, MirrorWriter } from '../mirror.ts';
import type { ObjectRetention } from '../store/object-store.ts';
import type { Pacer } from '../store/pacer.ts';
import type { SyncProgress } from './sync-progress.ts';
import type { DiskInput } from './sync-task.ts';

export interface SyncDeps {
  readonly mirror: Mirror;
  readonly writer: MirrorWriter;
  readonly index: MirrorIndex;
  readonly level: number;
  readonly retention: ObjectRetention | undefined;
  readonly pacer: Pacer;
  readonly progress: SyncProgress;
  readonly signal: AbortSignal;
  /** Points that nothing new may stand on. */
  readonly damaged: ReadonlySet<string>;
}

/** A point whose blocks are in the bucket. */
export interface PreparedPoint {
  readonly disk: DiskInput;
  readonly chain: ChainDocument;
  /** `blocks.json` as it is stored. */
  readonly body: Buffer;
  readonly dataRows: number;
  readonly dataBytes: number;
  /** Packs that were there before. */
  readonly reusedPacks: readonly string[];
}
