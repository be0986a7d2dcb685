import { run } from '../../base/process/run.ts';
import { hasCode, messageOf } from '../../base/sendense-error.ts';
import { type LogicalVolume, readVolumeGroup, type VolumeGroup } from './volume-group.ts';

/** A slice of a disk that belongs to a volume group. */
export interface PhysicalVolume {
  /** As blkid names it: the id of the physical volume. */
  readonly id: string;
  readonly file: string;
}

/** A logical volume that should be mounted, or why it cannot. */
export interface FoundVolume {
  readonly group: string;
  readonly volume: LogicalVolume;
  readonly objection: string | null;
}

export interface FoundGroups {
  readonly volumes: readonly FoundVolume[];
  /** Physical volume → what is wrong with its metadata. */
  readonly unreadable: ReadonlyMap<string, string>;
}

/** Finds the logical volumes on physical volumes. What cannot be read is an answer, not an error. @throws TOOL_MISSING */
export async function findVolumes(physical: readonly PhysicalVolume[]): Promise<FoundGroups> {
  const unreadable = new Map<string, string>();
  const groups = new Map<string, VolumeGroup>();
  for (const { id, file } of physical) {
    const text = await dumpMetadata(file).catch((error: unknown) => {
      if (!hasCode(error, 'TOOL_FAILED', 'TOOL_TIMEOUT')) throw error;
      unreadable.set(id, messageOf(error));
      return null;
    });
    if (text === null) continue;
    try {
      const group = readVolumeGroup(text);
      const known = groups.get(group.id);
      if (known === undefined || known.seqno < group.seqno) groups.set(group.id, group);
    } catch (error) {
      unreadable.set(id, `its LVM metadata cannot be read: ${messageOf(error)}`);
    }
  }
  const present = new Set(physical.map(({ id }) => id));
  const twice = present.size < physical.length;
  const names = [...groups.values()].map(({ name }) => name);
  const volumes = [...groups.values()].flatMap((group) =>
    group.volumes.map((volume) => ({
      group: group.name,
      volume,
      objection: twice
        ? 'two disks hold the same physical volume: mount them one by one with --disk'
        : names.filter((name) => name === group.name).length > 1
          ? `two volume groups are named ${group.name}: mount the disks one by one with --disk`
          : objectionTo(volume, present),
    })),
  );
  return { volumes, unreadable };
}

function objectionTo({ segments, kind }: LogicalVolume, present: ReadonlySet<string>): string | null {
  if (segments === null) return `it is ${kind}: mount with --mode vm`;
  const missing = segments.some(({ parts }) => parts.some(({ pv }) => !present.has(pv)));
  return missing ? 'a physical volume of it is on none of these disks' : null;
}

async function dumpMetadata(file: string): Promise<string> {
  const { stdout } = await run('pvck', ['--dump', 'metadata', file], { timeoutMs: 30_000 });
  // a line about where it stands, then the text between two rulers
  const [, text] = /^ {2}---\n([\s\S]*?)(?:^ {2}---\s*$|$(?![\s\S]))/m.exec(stdout) ?? [];
  return text ?? stdout;
}
