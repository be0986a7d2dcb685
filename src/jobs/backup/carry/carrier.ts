import type { MachineRef, ReadableDisk, SnapshotDisk } from '../../../capture/source.ts';
import type { MoveProgress } from '../../../nbd/mover/move-deps.ts';
import type { LayerFiles } from '../../../repository/layout.ts';
import type { JobContext } from '../../job-work.ts';
import type { DiskPlan } from '../plan/plan-disk.ts';

/** One disk of a snapshot, and the empty layer that shall get its bytes. */
export interface CarryOrder {
  readonly contextId: string;
  readonly diskIndex: number;
  readonly machine: MachineRef;
  readonly disk: SnapshotDisk;
  /** The disk as it is read, with its changes when the plan has a parent and they are known. */
  readonly source: ReadableDisk;
  readonly plan: DiskPlan;
  readonly layer: string;
  readonly files: LayerFiles;
  /** An earlier daemon began to fill this layer with just this. */
  readonly isBegun: boolean;
  /** For the name of the export; another one for each layer. */
  readonly exportTime: Date;
  /** Limit of what goes to the layer; 0: none. */
  readonly bytesPerSecond: number;
  readonly onProgress: (progress: MoveProgress) => void;
}

export interface Carried {
  readonly exportName: string;
  readonly writtenBytes: number;
}

/** Fills a layer and writes its rows. When it returns, everything is flushed and the layer is closed. */
export type Carrier = (order: CarryOrder, context: JobContext) => Promise<Carried>;
