import type { NbdEndpoint } from '../../client/nbd-connection.ts';

/** Where a mover finds out which ranges changed: a context of block status, whose set bits are the changed ranges. */
export interface ChangeMap {
  readonly endpoint: NbdEndpoint;
  /** As in `qemu:dirty-bitmap:backup-vda`. */
  readonly context: string;
}

/** Where a machine's bytes come from. Plain data: it crosses the border to the mover's process. */
export type SourceSpec =
  | { readonly kind: 'file'; readonly path: string; readonly sizeBytes: number; readonly hasHoles: boolean }
  | {
      readonly kind: 'nbd';
      /** What people call this disk. */
      readonly path: string;
      readonly sizeBytes: number;
      readonly endpoint: NbdEndpoint;
      /**
       * What changed since the parent layer is the union of these maps; all else is as in the parent. Absent: nobody
       * knows, so everything is read.
       */
      readonly changes?: readonly ChangeMap[];
    };
