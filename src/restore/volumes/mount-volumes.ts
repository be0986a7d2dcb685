import { createHash } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from '../../base/logger.ts';
import { StorageDaemon } from '../../qemu/storage-daemon.ts';
import { probeDisk } from '../disk/probe-disk.ts';
import { type ShownDisk, showByFuse } from '../disk/shown-disk.ts';
import { type MountPlace, mountSlices, sliceDeps } from '../mount/mount-disk.ts';
import type { MountedFilesystem } from '../mount/mounted-filesystem.ts';
import type { UndoStack } from '../mount/undo-stack.ts';
import { type FoundVolume, findVolumes } from './find-volumes.ts';
import { startVolumes } from './start-volumes.ts';
import type { PhysicalSource } from './volumes-spec.ts';

/** A slice that belongs to a volume group, and the disk that it lies on. */
export interface PhysicalSlice {
  readonly filesystem: MountedFilesystem;
  readonly disk: ShownDisk;
}

export interface VolumeDeps {
  readonly logger: Logger;
  /** Path of our own program. */
  readonly volumesFile: string;
}

/** Longest part of a key that is taken from a guest's names. */
const MAX_KEY_LENGTH = 100;

/**
 * Puts the logical volumes of these slices together and mounts what is on them.
 * @returns the slices with what became of them, and the volumes
 */
export async function mountVolumes(
  deps: VolumeDeps,
  place: MountPlace,
  slices: readonly PhysicalSlice[],
  undo: UndoStack,
): Promise<MountedFilesystem[]> {
  if (slices.length === 0) return [];
  const physical = [];
  for (const { filesystem, disk } of slices) {
    const file = await disk.sliceFile(undo, filesystem);
    physical.push({ id: filesystem.uuid ?? '', file });
  }
  const { volumes, unreadable } = await findVolumes(physical);
  const members = slices.map(({ filesystem }): MountedFilesystem => {
    const detail = unreadable.get(filesystem.uuid ?? '') ?? null;
    return { ...filesystem, status: detail === null ? 'container' : 'failed', detail };
  });
  const usable = volumes.filter(({ objection }) => objection === null);
  const disks = usable.length === 0 ? [] : await showVolumes(deps, place, slices, usable, undo);
  const mounted: MountedFilesystem[] = [];
  for (const [index, found] of usable.entries()) {
    const disk = disks[index];
    if (!disk) continue;
    const probed = await probeDisk(disk.path, found.volume.sizeBytes);
    mounted.push(
      ...(await mountSlices(sliceDeps(place), undo, disk, probed, keyOf(found), firstDisk(slices))),
    );
  }
  const refused = volumes.flatMap((found) =>
    found.objection === null ? [] : [notMounted(found, firstDisk(slices))],
  );
  return [...members, ...mounted, ...refused];
}

/** By a storage daemon of their own: one must not read through itself. */
async function showVolumes(
  { logger, volumesFile }: VolumeDeps,
  place: MountPlace,
  slices: readonly PhysicalSlice[],
  volumes: readonly FoundVolume[],
  undo: UndoStack,
): Promise<ShownDisk[]> {
  const sources: Record<string, PhysicalSource> = {};
  const exported = new Set<number>();
  for (const { filesystem, disk } of slices) {
    const { diskIndex, offsetBytes, sizeBytes, uuid } = filesystem;
    const exportName = `disk${diskIndex}-lvm`;
    if (!exported.has(diskIndex)) {
      // a node of its own: QEMU lets nobody else open a disk that is shown writable
      await place.daemon.openImage(exportName, disk.source.below);
      await place.daemon.addExport(exportName, exportName, { type: 'nbd', exportName, writable: false });
    }
    exported.add(diskIndex);
    sources[uuid ?? ''] = {
      endpoint: { socketPath: place.daemon.nbdSocket, exportName },
      offsetBytes,
      sizeBytes,
    };
  }
  const folder = join(place.folder, 'v');
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const socketPath = join(folder, 'lv.sock');
  const names = volumes.map((_, index) => `lv${index}`);
  const spec = {
    socketPath,
    sources,
    volumes: volumes.map(({ volume }, index) => ({
      name: names[index] ?? '',
      sizeBytes: volume.sizeBytes,
      segments: volume.segments ?? [],
    })),
  };
  await startVolumes(undo, volumesFile, spec, place.onLost);
  const daemon = new StorageDaemon({ logger, folder, isRestarted: false, onRestart: place.onLost });
  undo.push('stop the storage daemon of the volumes', () => daemon.stop());
  await daemon.start();
  const shown: ShownDisk[] = [];
  for (const [index, { volume }] of volumes.entries()) {
    const name = names[index] ?? '';
    const below = {
      driver: 'raw',
      'read-only': true,
      file: { driver: 'nbd', 'read-only': true, server: { type: 'unix', path: socketPath }, export: name },
    } as const;
    shown.push(await showByFuse({ ...place, daemon }, { name, below, sizeBytes: volume.sizeBytes }));
  }
  return shown;
}

const firstDisk = (slices: readonly PhysicalSlice[]) => slices[0]?.filesystem.diskIndex ?? 0;

/** Names from a guest, checked by who read them; a very long pair is cut and told apart by a digest. */
function keyOf({ group, volume }: FoundVolume): string {
  const key = `lvm-${group}-${volume.name}`;
  if (key.length <= MAX_KEY_LENGTH) return key;
  return `${key.slice(0, MAX_KEY_LENGTH - 9)}.${createHash('sha256').update(key).digest('hex').slice(0, 8)}`;
}

const notMounted = (found: FoundVolume, diskIndex: number): MountedFilesystem => ({
  key: keyOf(found),
  diskIndex,
  partitionNumber: null,
  offsetBytes: 0,
  sizeBytes: found.volume.sizeBytes,
  fsType: null,
  label: null,
  uuid: null,
  status: 'unsupported',
  mountPath: null,
  deviceNumber: null,
  reader: null,
  degraded: null,
  detail: found.objection,
});
