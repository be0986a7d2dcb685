import type { SourceSpec } from '../nbd/mover/block-reader.ts';

export type Consistency = 'application' | 'filesystem' | 'crash';

/** A machine's disks at one instant. */
export interface Snapshot extends AsyncDisposable {
  readonly consistency: Consistency;
  readonly disks: readonly SnapshotDisk[];
}

export interface SnapshotDisk {
  /** Identity as the source knows it, never an index we made up. */
  readonly key: string;
  readonly sizeBytes: number;
  /** To store with this restore point; null when the source tracks no changes. */
  readonly changeId: string | null;
  /** The read side for the mover, open until the snapshot is disposed. */
  open(): Promise<SourceSpec>;
}

/** A thing that can freeze a machine's disks at one instant. */
export interface Source {
  readonly kind: 'image';
  snapshot(machine: MachineRef): Promise<Snapshot>;
}

export interface MachineRef {
  readonly name: string;
  readonly disks: readonly { readonly key: string; readonly format: 'raw' | 'qcow2' }[];
  readonly allowBacking: readonly string[];
  /** True when something freezes the machine during the transfer. */
  readonly isFrozen: boolean;
}
