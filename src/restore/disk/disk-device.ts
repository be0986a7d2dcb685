import { join } from 'node:path';
import type { ImageNode } from '../../qemu/block-graph.ts';
import type { StorageDaemon } from '../../qemu/storage-daemon.ts';
import type { UndoStack } from '../mount/undo-stack.ts';

/** Something that shows one whole guest disk, writable, as a path. */
export type ShowDisk = (undo: UndoStack, diskIndex: number, overlay: ImageNode) => Promise<string>;

/** How disks are shown: as FUSE files of a storage daemon, or by the kernel's NBD client. */
export type MountMode = 'loop' | 'kernel-nbd';

/** The disk as a FUSE file of the mount's own storage daemon, which closes it when it stops. */
export function showByFuse(daemon: StorageDaemon, folder: string): ShowDisk {
  return async (_undo, diskIndex, overlay) => {
    const name = `disk${diskIndex}`;
    const mountpoint = join(folder, `${name}.img`);
    await daemon.openImage(name, overlay);
    await daemon.addExport(name, name, { type: 'fuse', mountpoint, writable: true });
    return mountpoint;
  };
}
