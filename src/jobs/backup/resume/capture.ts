import type { FilledLayer } from '../carry/fill-layer.ts';
import type { Resumption } from './resumption.ts';
import type { Suspension } from './suspension.ts';

/** How far a capture got, and what becomes of it when the daemon ends. */
export interface Capture {
  /** Gets each layer as soon as it is filled. */
  readonly made: FilledLayer[];
  /** What an earlier daemon had reached; the snapshot is taken up and not taken. */
  readonly resumption: Resumption | null;
  readonly suspension: Suspension;
}
