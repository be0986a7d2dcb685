import { join } from 'node:path';
import type { PrivilegedWork } from '../../mountd/privileged-work.ts';
import type { ImageNode, RawNode } from '../../qemu/block-graph.ts';
import type { StorageDaemon } from '../../qemu/storage-daemon.ts';
import type { DiskSlice } from '../mount/mounted-filesystem.ts';
import type { UndoStack } from '../mount/undo-stack.ts';
import { createOverlay } from './overlay.ts';

/** A guest disk above its overlay, writable, as programs of this machine reach it. */
export interface ShownDisk {
  readonly source: DiskSource;
  /** The whole disk. */
  readonly path: string;
  /** A block device of a part, for the kernel. @throws MOUNTD_REFUSED, TOOL_FAILED */
  sliceDevice(undo: UndoStack, slice: DiskSlice): Promise<string>;
  /** A file of a part, for programs of user space. */
  sliceFile(undo: UndoStack, slice: DiskSlice): Promise<string>;
}

export interface ShowPlace {
  readonly session: string;
  /** The session's image folder. */
  readonly folder: string;
  readonly daemon: StorageDaemon;
  readonly work: PrivilegedWork;
  /** Most bytes that replay may write to one disk. */
  readonly limitBytes: number;
}

/** What is shown, still without its overlay. */
export interface DiskSource {
  readonly name: string;
  readonly below: ImageNode;
  readonly sizeBytes: number;
}

/** As FUSE files of the mount's own storage daemon, which closes them when it stops. */
export async function showByFuse(place: ShowPlace, source: DiskSource): Promise<ShownDisk> {
  const { daemon, folder, work, session } = place;
  const { name } = source;
  const file = `${name}.img`;
  const path = join(folder, file);
  await daemon.openImage(name, await overlayOf(place, source, place.limitBytes));
  await daemon.addExport(name, name, { type: 'fuse', mountpoint: path, writable: true });
  return {
    source,
    path,
    sliceDevice: async (undo, { offsetBytes, sizeBytes }) => {
      const device = await work.attachLoop({ session, file, offsetBytes, sizeBytes });
      undo.push(`detach ${device}`, ({ force }) => work.detachLoop(device, force));
      return device;
    },
    sliceFile: (undo, slice) => sliceByFuse(place, source, undo, slice),
  };
}

/** As `/dev/nbdN`. */
export async function showByKernelNbd(
  place: ShowPlace,
  undo: UndoStack,
  source: DiskSource,
): Promise<ShownDisk> {
  const { daemon, work, session } = place;
  const { name } = source;
  await daemon.openImage(name, await overlayOf(place, source, place.limitBytes));
  await daemon.addExport(name, name, { type: 'nbd', exportName: name, writable: true });
  const device = await work.connectNbd({ session, socket: 'qsd-nbd.sock', exportName: name });
  undo.push(`disconnect ${device}`, () => work.disconnectNbd(device));
  return {
    source,
    path: device,
    // the kernel scanned for partitions when it was connected
    sliceDevice: async (_undo, { partitionNumber }) =>
      partitionNumber === null ? device : `${device}p${partitionNumber}`,
    sliceFile: (sliceUndo, slice) => sliceByFuse(place, source, sliceUndo, slice),
  };
}

const overlayOf = ({ folder }: ShowPlace, { name, below, sizeBytes }: DiskSource, limitBytes: number) =>
  createOverlay(join(folder, `${name}.qcow2`), below, sizeBytes, limitBytes);

/** Of the room that replay has on a disk each part gets this much: few guests have more partitions with a journal. */
const PARTS = 8;

/**
 * A part of a disk as a file of its own, above an overlay of its own: QEMU lets nobody else write to a disk that is
 * shown as a whole.
 */
async function sliceByFuse(
  place: ShowPlace,
  { name: disk, below }: DiskSource,
  undo: UndoStack,
  { partitionNumber, offsetBytes, sizeBytes }: DiskSlice,
): Promise<string> {
  const { daemon, folder, limitBytes } = place;
  const name = partitionNumber === null ? `${disk}-all` : `${disk}-p${partitionNumber}`;
  const part: RawNode = {
    driver: 'raw',
    'read-only': true,
    offset: offsetBytes,
    size: sizeBytes,
    file: below,
  };
  const mountpoint = join(folder, `${name}.img`);
  await daemon.openImage(name, await overlayOf(place, { name, below: part, sizeBytes }, limitBytes / PARTS));
  undo.push(`close ${name}`, () => daemon.closeImage(name));
  await daemon.addExport(name, name, { type: 'fuse', mountpoint, writable: true });
  return mountpoint;
}
