import type { Logger } from '../../base/logger.ts';
import { readOnlyChain } from '../../qemu/block-graph.ts';
import { StorageDaemon } from '../../qemu/storage-daemon.ts';

/** Disks of a restore point as a guest sees them, served on a unix socket as long as this is open. */
export async function openGuestExports(
  deps: { readonly logger: Logger; readonly folder: string },
  disks: readonly { readonly name: string; readonly images: readonly string[] }[],
): Promise<AsyncDisposable & { readonly socketPath: string }> {
  // one that died must not come back below layers that were rewritten meanwhile
  const daemon = new StorageDaemon({ logger: deps.logger, folder: deps.folder, isRestarted: false });
  await daemon.start();
  try {
    for (const { name, images } of disks) {
      const node = readOnlyChain(images);
      if (!node) throw new Error('an empty chain has no guest');
      await daemon.openImage(name, node);
      await daemon.addExport(name, name, { type: 'nbd', exportName: name, writable: false });
    }
  } catch (error) {
    await daemon.stop();
    throw error;
  }
  return { socketPath: daemon.nbdSocket, [Symbol.asyncDispose]: () => daemon.stop() };
}
