import { z } from 'zod';
import type { MachineRef, SnapshotMemory } from '../source.ts';
import { imageIdentity } from './image-identity.ts';
import type { InspectedDisk } from './inspect-disk.ts';

const remembered = z.object({
  disks: z.array(
    z.object({
      path: z.string(),
      format: z.enum(['raw', 'qcow2']),
      sizeBytes: z.number(),
      isBlockDevice: z.boolean(),
      /** By it the next daemon sees whether it would read the same. */
      identity: z.string(),
    }),
  ),
});

/** Images are their own snapshot. @returns null when one of them could be another one later without anybody seeing it */
export async function rememberImages(
  inspected: readonly InspectedDisk[],
  { allowBacking }: Pick<MachineRef, 'allowBacking'>,
): Promise<SnapshotMemory | null> {
  const disks: z.infer<typeof remembered>['disks'] = [];
  for (const disk of inspected) {
    const identity = await imageIdentity(disk, allowBacking);
    if (identity === null) return null;
    disks.push({ ...disk, identity });
  }
  return { disks };
}

/** The disks as they were looked at then. */
export const rememberedImages = (memory: SnapshotMemory): readonly InspectedDisk[] =>
  remembered.parse(memory).disks;

/** True when reading can go on: nobody wrote to any of them. */
export async function areImagesUnchanged(
  { allowBacking }: Pick<MachineRef, 'allowBacking'>,
  memory: SnapshotMemory,
): Promise<boolean> {
  const parsed = remembered.safeParse(memory);
  if (!parsed.success) return false;
  for (const disk of parsed.data.disks)
    if ((await imageIdentity(disk, allowBacking)) !== disk.identity) return false;
  return true;
}
