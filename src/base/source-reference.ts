export type DiskFormat = 'raw' | 'qcow2';

/** Where a machine is found, as it is registered. Plain data. */
export type SourceReference =
  /** Image files and block devices; each disk's key is its path. */
  { readonly kind: 'image' } | LibvirtReference;

export interface LibvirtReference {
  readonly kind: 'libvirt';
  /** As `virsh --connect` takes it. */
  readonly uri: string;
  /** UUID of the domain; its name may change. */
  readonly domain: string;
  /** Names of targets such as `vda`; empty: all disks. */
  readonly includeDisks: readonly string[];
  readonly excludeDisks: readonly string[];
  /** Freeze the guest's file systems through its agent. */
  readonly freeze: boolean;
}

export type SourceKind = SourceReference['kind'];
