import type { DiskFormat, SourceKind, SourceReference } from '../base/source-reference.ts';
import type { SourceSpec } from '../nbd/mover/read/source-spec.ts';

export type Consistency = 'application' | 'filesystem' | 'crash';
/** A registered machine, as its source is asked about it. Plain data. */
export interface MachineRef {
  readonly name: string;
  /** Lasting and unique: for names of things that are made at the source. */
  readonly uuid: string;
  readonly source: SourceReference;
  readonly disks: readonly { readonly key: string; readonly format: DiskFormat }[];
  readonly allowBacking: readonly string[];
  /** True when something freezes the machine during the transfer. */
  readonly isFrozen: boolean;
}

export interface DiskDescription {
  /** Identity as the source knows it, never an index we made up. */
  readonly key: string;
  readonly format: DiskFormat;
  readonly sizeBytes: number;
}

/** A machine as its source sees it now. Plain data. */
export interface MachineDescription {
  readonly name: string;
  readonly source: SourceReference;
  readonly isRunning: boolean;
  /** Those that a backup takes. */
  readonly disks: readonly DiskDescription[];
  /** Disks that are left out, and why. */
  readonly leftOut: readonly { readonly key: string; readonly reason: string }[];
}

export interface SnapshotOptions {
  /** For each disk key what its newest layer remembers, when an incremental would stand on that. */
  readonly since: Readonly<Record<string, Remembered>>;
  readonly signal: AbortSignal;
  /** Called before anything is made at the source, with what `cleanUp` needs if this process dies. Plain data. */
  readonly willMake: (leftover: SnapshotLeftover) => void;
  readonly warn: (text: string) => void;
}

/** What a layer and the manifest of its restore point remember of their instant. */
export interface Remembered {
  readonly changeId: string;
  readonly configuration: MachineConfiguration | null;
}

export type SnapshotMemory = Readonly<Record<string, unknown>>;

export type SnapshotLeftover = Readonly<Record<string, unknown>>;

/** A machine's disks at one instant. Disposing it ends the reading; what tracks the changes stays. */
export interface Snapshot extends AsyncDisposable {
  readonly consistency: Consistency;
  readonly disks: readonly SnapshotDisk[];
  /** What a restore of the whole machine needs beside its disks; null when there is nothing. */
  readonly configuration: MachineConfiguration | null;
  /** By it the next daemon can take it up, when somebody else holds it. Plain data; absent: it ends with this process. */
  readonly memory?: SnapshotMemory;
  /** Whether the next daemon would still read the same. Absent: somebody holds it. */
  isStillSame?(): Promise<boolean>;
}

/** Kept in the manifest. Plain data. */
export interface MachineConfiguration {
  readonly kind: 'libvirt';
  /** The domain, without secrets. */
  readonly domain_xml: string;
  /** The checkpoint of this instant, to be told to libvirt again when it was forgotten. Null: there is none. */
  readonly checkpoint_xml: string | null;
  /** The UEFI variables as base64 of a zstd stream; null: it has none. */
  readonly nvram_zst: string | null;
}

/** Why the changes of a disk are not known. The sentence has no full stop: it stands inside another one. */
export interface ChangeTrackingLost {
  readonly lost: string;
}

/** A disk that was opened at an agent; only there its bytes can be read. Plain data. */
export interface DiskAtAgent {
  readonly kind: 'agent';
  readonly snapshotId: string;
  readonly openedId: string;
  /** By it the agent finds the disk again after a restart; null: it cannot. */
  readonly identity: string | null;
  readonly hasChanges: boolean;
}

/** What a transfer reads: here, or at an agent. */
export type ReadableDisk = SourceSpec | DiskAtAgent;

export interface SnapshotDisk {
  readonly key: string;
  readonly sizeBytes: number;
  /** To store with this restore point; null when the source tracks no changes. */
  readonly changeId: string | null;
  /** The whole disk, open until the snapshot is disposed. */
  open(): Promise<ReadableDisk>;
  /** The same with the extents that changed since then. */
  changedSince(changeId: string): Promise<ReadableDisk | ChangeTrackingLost>;
}

/** A thing that can freeze a machine's disks at one instant. */
export interface Source {
  readonly kind: SourceKind;
  /** The machines at a place that the source understands; for libvirt a URI. */
  discover(place: string): AsyncIterable<MachineDescription>;
  /** @throws SOURCE_…, when the machine or one of its disks is not there */
  describe(machine: MachineRef): Promise<MachineDescription>;
  /** All disks at one instant. @throws SOURCE_…, CANCELLED; nothing stays behind then */
  snapshot(machine: MachineRef, options: SnapshotOptions): Promise<Snapshot>;
  /** Goes on with a snapshot that an earlier daemon had taken. Only of sources that give a memory. */
  takeUp?(machine: MachineRef, memory: SnapshotMemory): Snapshot;
  /** Removes what a snapshot made whose process died. Repeating it is fine. */
  cleanUp(machine: MachineRef, leftover: SnapshotLeftover): Promise<void>;
  /** No layer needs other change IDs than these any more: the source may forget what it keeps for others. */
  release(machine: MachineRef, neededChangeIds: readonly string[]): Promise<void>;
}

/** The source for a machine of this kind, at an agent or (null) on this host. */
export type SourceOf = (kind: SourceKind, agentId: string | null) => Source;

/** The sources of one host. */
export type LocalSources = (kind: SourceKind) => Source;
