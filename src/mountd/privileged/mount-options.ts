/** How to mount one kind of file system read-only, and how when its journal cannot be replayed. */
interface KernelPlan {
  /** `-t` of mount. */
  readonly driver: string;
  readonly options: string;
  /** Null: there is no way without replay. */
  readonly withoutReplay: string | null;
}

/** A guest's files must not become programs, devices or privileges of this machine. */
const COMMON = 'ro,nosuid,nodev,noexec';

// The superblock of an ext file system may ask the kernel to panic at the first error it finds.
const ext: KernelPlan = {
  driver: 'ext4',
  options: `${COMMON},errors=remount-ro`,
  withoutReplay: `${COMMON},errors=remount-ro,noload`,
};
const plain = (driver: string): KernelPlan => ({ driver, options: COMMON, withoutReplay: null });

/** The only file systems that are ever handed to the kernel. */
const plans: Readonly<Record<string, KernelPlan>> = {
  // one driver reads all three
  ext2: ext,
  ext3: ext,
  ext4: ext,
  // nouuid: the newest and the oldest restore point of one disk have the same UUID
  xfs: { driver: 'xfs', options: `${COMMON},nouuid`, withoutReplay: `${COMMON},nouuid,norecovery` },
  // the top of all subvolumes, whichever the guest boots from
  btrfs: {
    driver: 'btrfs',
    options: `${COMMON},subvolid=5`,
    withoutReplay: `${COMMON},subvolid=5,rescue=nologreplay`,
  },
  vfat: plain('vfat'),
  exfat: plain('exfat'),
  iso9660: plain('iso9660'),
  udf: plain('udf'),
  squashfs: plain('squashfs'),
};

export function kernelPlanFor(fsType: string): KernelPlan | null {
  return Object.hasOwn(plans, fsType) ? (plans[fsType] ?? null) : null;
}
