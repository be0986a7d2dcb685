/** A place to mount at, `<session>/<key>` in the base folder: names, never paths. */
export interface Place {
  readonly session: string;
  readonly key: string;
}

export interface LoopRequest {
  readonly session: string;
  /** Name of a FUSE file in the session's image folder. */
  readonly file: string;
  readonly offsetBytes: number;
  readonly sizeBytes: number;
}

export interface NbdRequest {
  readonly session: string;
  /** Name of a unix socket in the session's image folder. */
  readonly socket: string;
  readonly exportName: string;
}

export interface KernelMountRequest extends Place {
  /** What `attachLoop` or `connectNbd` gave. */
  readonly device: string;
  /** As `blkid` names it. */
  readonly fsType: string;
  /** False: what only the journal knows is not shown. */
  readonly replay: boolean;
}

export interface KernelMountResult {
  /** Null when the kernel refused. */
  readonly path: string | null;
  /** What mount(8) said then. */
  readonly refusal: string | null;
}

export interface SweepResult {
  readonly mounts: number;
  /** Loop and nbd devices. */
  readonly devices: number;
}

/** Everything that needs privileges, and nothing else. What is absent already is no error for what takes down. */
export interface PrivilegedWork {
  /** @throws MOUNTD_REFUSED, TOOL_FAILED */
  attachLoop(request: LoopRequest): Promise<string>;
  /** @throws MOUNT_BUSY unless forced: then the kernel detaches it when its last user ends */
  detachLoop(device: string, force: boolean): Promise<void>;
  /** @throws MOUNTD_REFUSED, MOUNT_FAILED when all devices are in use or there are none */
  connectNbd(request: NbdRequest): Promise<string>;
  disconnectNbd(device: string): Promise<void>;
  mount(request: KernelMountRequest): Promise<KernelMountResult>;
  /** An empty folder of the user's, to mount at without privileges. @returns its path */
  makePlace(place: Place): Promise<string>;
  /** Unmounts what is there and removes the folder. @throws MOUNT_BUSY unless forced: then it is only cut off */
  clearPlace(place: Place, force: boolean): Promise<void>;
  /** Shows a place elsewhere too. @throws MOUNTD_REFUSED */
  expose(place: Place, at: string): Promise<void>;
  unexpose(at: string, force: boolean): Promise<void>;
  /** Takes down everything that is there, whoever set it up. */
  sweep(): Promise<SweepResult>;
}

export type WorkName = keyof PrivilegedWork;
