/** How to mount one kind of file system read-only, and how when its journal cannot be replayed. */
export interface MountPlan {
  /** `-t` of mount. */
  readonly driver: string;
  readonly options: string;
  /** Null: there is no second try. */
  readonly withoutReplay: string | null;
}

/** A guest's files must not become programs, devices or privileges of this machine. */
const COMMON = 'ro,nosuid,nodev,noexec';

// The superblock of an ext file system may ask the kernel to panic at the first error it finds.
const ext: MountPlan = {
  driver: 'ext4',
  options: `${COMMON},errors=remount-ro`,
  withoutReplay: `${COMMON},errors=remount-ro,noload`,
};

/** The only file systems that are ever handed to the kernel. */
const plans: Readonly<Record<string, MountPlan>> = {
  // one driver reads all three
  ext2: ext,
  ext3: ext,
  ext4: ext,
  // nouuid: the newest and the oldest restore point of one disk have the same UUID
  xfs: { driver: 'xfs', options: `${COMMON},nouuid`, withoutReplay: `${COMMON},nouuid,norecovery` },
  btrfs: { driver: 'btrfs', options: COMMON, withoutReplay: `${COMMON},rescue=nologreplay` },
  vfat: { driver: 'vfat', options: COMMON, withoutReplay: null },
};

export function mountPlanFor(fsType: string): MountPlan | null {
  return Object.hasOwn(plans, fsType) ? (plans[fsType] ?? null) : null;
}
