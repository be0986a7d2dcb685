import type { Place } from '../../mountd/privileged-work.ts';
import type { MountedFilesystem } from './mounted-filesystem.ts';

/** What became of the disks of a guest, before it is known whether that is enough. */
export interface MountedDisks {
  readonly filesystems: readonly MountedFilesystem[];
  /** What can be shown elsewhere too: a place, and the folder for it when there are several. */
  readonly shown: readonly (Place & { readonly folder: string })[];
  /** True once a program below died. */
  isLost(): boolean;
}
