import type { Logger } from '../../base/logger.ts';
import type { PrivilegedWork } from '../../mountd/privileged-work.ts';
import type { MountDisk } from './mount-disk.ts';
import type { MountMode, WantedMode } from './mount-mode.ts';
import type { MountedFilesystem } from './mounted-filesystem.ts';
import type { UndoOptions } from './undo-stack.ts';

export interface OpenMountDeps {
  readonly logger: Logger;
  /** Sockets and overlays go to `mounts/<mountId>` in it. */
  readonly runFolder: string;
  /** File systems are mounted at `<mountId>/<key>` in it. */
  readonly mountFolder: string;
  readonly work: PrivilegedWork;
  /** Our own program that serves logical volumes. */
  readonly volumesFile: string;
  /** Where `scripts/build-vm` put the kernel of the micro-VM. */
  readonly vmFolder: string;
  /** Remembers whether KVM works on this machine. */
  readonly kvmFile: string;
  /** False: `work` can do nothing but what any user may. */
  readonly hasPrivileges: boolean;
  /** Used when the request names none. */
  readonly mode: WantedMode;
  /** Most bytes that journal replay may write, over all disks of one mount. */
  readonly overlayLimitBytes: number;
}

export interface MountRequest {
  readonly mountId: string;
  readonly disks: readonly MountDisk[];
  readonly mode?: WantedMode | undefined;
  /** Tried on everything encrypted, in a micro-VM. */
  readonly passphrases?: readonly string[] | undefined;
  /** Where the operator also wants to see the files; null: nowhere. */
  readonly exposeAt: string | null;
}

/** A request with the folder of its session, for sockets and overlays. */
export interface SessionRequest extends MountRequest {
  readonly folder: string;
}

/** A restore point that is mounted until it is closed. */
export interface OpenMount extends AsyncDisposable {
  readonly mountId: string;
  readonly mountPath: string;
  readonly mode: MountMode;
  readonly filesystems: readonly MountedFilesystem[];
  /** True when the content of at least one file system may be incomplete. */
  readonly degraded: boolean;
  /** True once a program below it died: every read fails, it can only be closed. */
  isLost(): boolean;
  /**
   * Takes everything down; repeating it is fine, also after MOUNT_BUSY.
   * @throws MOUNT_BUSY while a program uses a file in it, unless forced
   */
  close(options?: UndoOptions): Promise<void>;
}
