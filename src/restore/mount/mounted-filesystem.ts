/**
 * `container`: what it holds is told by itself (the volumes of an LVM, a RAID array, what is inside LUKS);
 * `unsupported`: recognised, but not mounted in this mode or this version; `locked`: encrypted, and no passphrase opens
 * it; `empty`: no known signature; `failed`: should have mounted but did not, see `detail`.
 */
export type FilesystemStatus =
  | 'mounted'
  | 'container'
  | 'unsupported'
  | 'locked'
  | 'swap'
  | 'empty'
  | 'failed';

/** A part of a guest disk: a partition, or the whole disk when it has no partition table. */
export interface DiskSlice {
  /** Null: the disk is not partitioned. */
  readonly partitionNumber: number | null;
  readonly offsetBytes: number;
  readonly sizeBytes: number;
}

/** What stands at the start of a slice, as `blkid` sees it. */
export interface SliceContent {
  readonly fsType: string | null;
  readonly label: string | null;
  readonly uuid: string | null;
}

/** One slice of one disk after the attempt to mount it. */
export interface MountedFilesystem extends DiskSlice, SliceContent {
  /** `disk0-p1`, or `disk0` when unpartitioned: its folder name and its name in paths. */
  readonly key: string;
  readonly diskIndex: number;
  readonly mountPath: string | null;
  /** `st_dev` of what is mounted, so that a path is never resolved in the folder below a vanished mount. */
  readonly deviceNumber: number | null;
  readonly status: FilesystemStatus;
  /** What reads it: `kernel`, `vm`, or the name of a program of user space; null when it is not mounted. */
  readonly reader: string | null;
  /** What is wrong with its content although it is mounted. */
  readonly degraded: string | null;
  /** Why it is not mounted. */
  readonly detail: string | null;
}

/** @param diskKey `disk0`, `lvm-vg-lv` */
export function filesystemKey(diskKey: string, partitionNumber: number | null): string {
  return partitionNumber === null ? diskKey : `${diskKey}-p${partitionNumber}`;
}
