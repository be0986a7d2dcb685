import type { NbdEndpoint } from '../../nbd/client/nbd-connection.ts';
import type { VolumeSegment } from './volume-group.ts';

/** A physical volume: a part of a disk that a storage daemon exports. */
export interface PhysicalSource {
  readonly endpoint: NbdEndpoint;
  readonly offsetBytes: number;
  readonly sizeBytes: number;
}

/** What the process that serves logical volumes is told, as one line of JSON. */
export interface VolumesSpec {
  readonly socketPath: string;
  readonly volumes: readonly {
    /** Its export. */
    readonly name: string;
    readonly sizeBytes: number;
    readonly segments: readonly VolumeSegment[];
  }[];
  /** By id of the physical volume. */
  readonly sources: Readonly<Record<string, PhysicalSource>>;
}
