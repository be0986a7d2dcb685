import type { KeyRing } from './crypto/key-ring.ts';
import type { ObjectStore } from './store/object-store.ts';

/** A mirror that was found and whose keys are known. */
export interface Mirror {
  readonly store: ObjectStore;
  readonly keys: KeyRing;
  readonly mirrorId: string;
  readonly mode: 'packed' | 'plain';
  /** Of a block object in `plain`. */
  readonly blockBytes: number;
  /** For people: endpoint, bucket and prefix. */
  readonly place: string;
}

/** Who writes to it. */
export interface MirrorWriter {
  readonly applianceId: string;
  readonly epoch: number;
}
