import type { MountDisk } from './mount-disk.ts';
import type { WantedMode } from './mount-mode.ts';
import type { OpenMount } from './mount-request.ts';

/** `lost`: its storage daemon died, so that nothing in it could be read any more. */
export type CloseReason = 'removed' | 'expired' | 'shutdown' | 'lost';

export interface MountSession {
  readonly mountId: string;
  readonly backupId: string;
  readonly exposeAt: string | null;
  readonly createdAt: Date;
  readonly lastUsedAt: Date;
  readonly expiresAt: Date;
  readonly mount: OpenMount;
}

/** Keeps a mount alive while something is read from it. Releasing it twice is fine. */
export interface MountHold extends Disposable {
  readonly session: MountSession;
  release(): void;
}

export interface OpenSessionRequest {
  readonly backupId: string;
  readonly disks: readonly MountDisk[];
  /** As configured when it is not given. */
  readonly mode?: WantedMode | undefined;
  readonly passphrases?: readonly string[] | undefined;
  readonly exposeAt: string | null;
}
