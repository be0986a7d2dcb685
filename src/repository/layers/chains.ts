/** What chain rules need to know of a backup; rows of the catalogue fit. */
export interface ChainMember {
  readonly id: string;
  /** Deleted; layers of it remain because others stand on them. */
  readonly retired?: boolean;
  readonly disks: readonly {
    readonly diskIndex: number;
    readonly layer: string;
    readonly parentLayer: string | null;
    readonly parentBackupId: string | null;
    readonly fileBytes: number;
  }[];
}

/** A full and everything above it, of one disk. */
export interface DiskChain {
  readonly diskIndex: number;
  readonly fullBackupId: string;
  readonly latestBackupId: string;
  readonly totalSizeBytes: number;
  /** In order of completion; `retired` ones are layers without a restore point. */
  readonly backups: readonly {
    readonly backupId: string;
    readonly layer: string;
    readonly retired: boolean;
  }[];
}

/**
 * Groups the backups of one machine in one repository into chains. Pure.
 * @param members in order of completion
 */
export function chainsOf(members: readonly ChainMember[]): DiskChain[] {
  interface Building {
    diskIndex: number;
    totalSizeBytes: number;
    backups: { backupId: string; layer: string; retired: boolean }[];
  }
  const chains: Building[] = [];
  /** `disk/layer` → the chain it lies in. */
  const home = new Map<string, Building>();
  for (const member of members) {
    for (const disk of member.disks) {
      const place = (layer: string) => `${disk.diskIndex}/${layer}`;
      const existing = disk.parentLayer === null ? undefined : home.get(place(disk.parentLayer));
      const chain: Building = existing ?? { diskIndex: disk.diskIndex, totalSizeBytes: 0, backups: [] };
      if (!existing) chains.push(chain);
      chain.totalSizeBytes += disk.fileBytes;
      chain.backups.push({ backupId: member.id, layer: disk.layer, retired: member.retired === true });
      home.set(place(disk.layer), chain);
    }
  }
  return chains.flatMap((chain) => {
    const living = chain.backups.filter((backup) => !backup.retired);
    const [first] = living;
    const last = living.at(-1);
    if (!first || !last) return [];
    return [{ ...chain, fullBackupId: first.backupId, latestBackupId: last.backupId }];
  });
}

/**
 * The backups that cannot be read without this one, nearest first; retired ones are not named. Pure.
 * @param members all of the machine in the same repository, retired ones too
 */
export function dependantsOf(members: readonly ChainMember[], id: string): string[] {
  const needed = new Set([id]);
  const found: string[] = [];
  for (let grew = true; grew; ) {
    grew = false;
    for (const member of members) {
      if (needed.has(member.id)) continue;
      if (!member.disks.some((disk) => disk.parentBackupId !== null && needed.has(disk.parentBackupId)))
        continue;
      needed.add(member.id);
      if (member.retired !== true) found.push(member.id);
      grew = true;
    }
  }
  return found;
}

/** The backups whose disk is read through this layer, the one that owns it included; no retired ones. Pure. */
export function membersOnLayer(members: readonly ChainMember[], diskIndex: number, layer: string): string[] {
  const layers = new Set([layer]);
  const found: string[] = [];
  const seen = new Set<string>();
  for (let grew = true; grew; ) {
    grew = false;
    for (const member of members) {
      const disk = member.disks.find((candidate) => candidate.diskIndex === diskIndex);
      if (!disk || seen.has(member.id)) continue;
      if (!layers.has(disk.layer) && !(disk.parentLayer !== null && layers.has(disk.parentLayer))) continue;
      layers.add(disk.layer);
      seen.add(member.id);
      if (member.retired !== true) found.push(member.id);
      grew = true;
    }
  }
  return found;
}
