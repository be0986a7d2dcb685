import type { Logger } from '../../base/logger.ts';
import type { ImageNode } from '../../qemu/block-graph.ts';
import { StorageDaemon } from '../../qemu/storage-daemon.ts';

/** The guest's view of one layer of a chain. @param depth 0: the newest */
export const layerExport = (disk: string, depth: number): string => `${disk}-${depth}`;

/**
 * Disks of a restore point as a guest sees them, served on a unix socket as long as this is open: each layer of their
 * chains by itself, since the digest of a row that newer layers hide in part fits only what its own layer shows.
 */
export async function openGuestExports(
  deps: { readonly logger: Logger; readonly folder: string },
  disks: readonly { readonly name: string; readonly images: readonly string[] }[],
): Promise<AsyncDisposable & { readonly socketPath: string }> {
  // one that died must not come back below layers that were rewritten meanwhile
  const daemon = new StorageDaemon({ logger: deps.logger, folder: deps.folder, isRestarted: false });
  await daemon.start();
  try {
    for (const { name, images } of disks) {
      let backing: string | null = null;
      for (const [depth, filename] of [...images.entries()].toReversed()) {
        const layer = layerExport(name, depth);
        const file = { driver: 'file', filename, 'read-only': true } as const;
        const node: ImageNode = { driver: 'qcow2', 'read-only': true, file, backing };
        await daemon.openImage(layer, node);
        await daemon.addExport(layer, layer, { type: 'nbd', exportName: layer, writable: false });
        backing = layer;
      }
    }
  } catch (error) {
    await daemon.stop();
    throw error;
  }
  return { socketPath: daemon.nbdSocket, [Symbol.asyncDispose]: () => daemon.stop() };
}
