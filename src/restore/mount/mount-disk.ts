import { SendenseError } from '../../base/sendense-error.ts';
import { readOnlyChain } from '../../qemu/block-graph.ts';
import { readChainSize } from '../disk/chain-size.ts';
import { type ProbedSlice, probeDisk } from '../disk/probe-disk.ts';
import {
  type DiskSource,
  type ShownDisk,
  type ShowPlace,
  showByFuse,
  showByKernelNbd,
} from '../disk/shown-disk.ts';
import { allSettled } from './all-settled.ts';
import type { MountMode } from './mount-mode.ts';
import { mountSlice, type SliceDeps } from './mount-slice.ts';
import { filesystemKey, type MountedFilesystem } from './mounted-filesystem.ts';
import type { UndoStack } from './undo-stack.ts';

export interface MountDisk {
  readonly diskIndex: number;
  /** Absolute paths, newest layer first, the full last. */
  readonly chain: readonly string[];
}

export interface MountPlace extends ShowPlace {
  readonly mode: MountMode;
  readonly onLost: () => void;
}

/** A disk and what became of its parts. */
export interface DiskOutcome {
  readonly disk: ShownDisk;
  readonly filesystems: readonly MountedFilesystem[];
}

/** Shows one disk above its overlay, finds what is on it and mounts that. */
export async function mountDisk(
  place: MountPlace,
  { diskIndex, chain }: MountDisk,
  undo: UndoStack,
): Promise<DiskOutcome> {
  const sizeBytes = await readChainSize(chain);
  const below = readOnlyChain(chain);
  if (below === null) throw new SendenseError('INTERNAL', { detail: 'a chain without layers' });
  const disk = await showDisk(place, undo, { name: `disk${diskIndex}`, below, sizeBytes });
  const slices = await probeDisk(disk.path, sizeBytes);
  const key = `disk${diskIndex}`;
  return { disk, filesystems: await mountSlices(sliceDeps(place), undo, disk, slices, key, diskIndex) };
}

/** Mounts the parts of one disk or volume, all at once. */
export async function mountSlices(
  deps: SliceDeps,
  undo: UndoStack,
  disk: ShownDisk,
  slices: readonly ProbedSlice[],
  diskKey: string,
  diskIndex: number,
): Promise<MountedFilesystem[]> {
  return await allSettled(
    slices.map(async (slice): Promise<MountedFilesystem> => {
      const { partitionNumber, offsetBytes, sizeBytes, content } = slice;
      const key = filesystemKey(diskKey, partitionNumber);
      const outcome = await mountSlice(deps, undo, disk, slice, key);
      return { key, diskIndex, partitionNumber, offsetBytes, sizeBytes, ...content, ...outcome };
    }),
  );
}

const showDisk = (place: MountPlace, undo: UndoStack, source: DiskSource): Promise<ShownDisk> =>
  place.mode === 'kernel-nbd' ? showByKernelNbd(place, undo, source) : showByFuse(place, source);

export const sliceDeps = ({ work, session, folder, mode, onLost }: MountPlace): SliceDeps => ({
  work,
  session,
  folder,
  byKernel: mode !== 'userspace',
  onLost,
});
