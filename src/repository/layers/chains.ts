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

type Disk = ChainMember['disks'][number];
const place = (disk: Disk, layer: string) => `${disk.diskIndex}/${layer}`;

/**
 * Everything that stands on one of these layers, nearest first. By layers, since a deleted backup whose layers remain may
 * have the id of one that was made or copied after it.
 * @param within the disks that are looked at
 */
function standingOn(
  members: readonly ChainMember[],
  layers: Set<string>,
  within: (member: ChainMember) => readonly Disk[],
): ChainMember[] {
  const found = new Set<ChainMember>();
  for (let grew = true; grew; ) {
    grew = false;
    for (const member of members) {
      if (found.has(member)) continue;
      const disks = within(member);
      if (!disks.some((disk) => disk.parentLayer !== null && layers.has(place(disk, disk.parentLayer))))
        continue;
      for (const disk of disks) layers.add(place(disk, disk.layer));
      found.add(member);
      grew = true;
    }
  }
  return [...found];
}

/**
 * The backups that cannot be read without this one, nearest first; retired ones are not named. Pure.
 * @param members all of the machine in the same repository, retired ones too
 */
export function dependantsOf(members: readonly ChainMember[], id: string): string[] {
  const own = members.find((member) => member.id === id && member.retired !== true);
  const layers = new Set(own?.disks.map((disk) => place(disk, disk.layer)));
  return standingOn(members, layers, ({ disks }) => disks)
    .filter(({ retired }) => retired !== true)
    .map((member) => member.id);
}

/** The backups whose disk is read through this layer, the one that owns it included; no retired ones. Pure. */
export function membersOnLayer(members: readonly ChainMember[], diskIndex: number, layer: string): string[] {
  const ofDisk = ({ disks }: ChainMember) => disks.filter((disk) => disk.diskIndex === diskIndex);
  const owners = members.filter((member) => ofDisk(member).some((disk) => disk.layer === layer));
  const above = standingOn(members, new Set([`${diskIndex}/${layer}`]), ofDisk);
  return [...owners, ...above].filter(({ retired }) => retired !== true).map(({ id }) => id);
}
