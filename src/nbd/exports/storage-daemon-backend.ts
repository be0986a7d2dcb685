import { writableLayer } from '../../qemu/block-graph.ts';
import type { StorageDaemon } from '../../qemu/storage-daemon.ts';
import type { ExportBackend } from './export-backend.ts';
import { nodeNames } from './node-names.ts';

/** client → qemu-storage-daemon → qcow2: the fastest way, and right for every NBD client. */
export function storageDaemonBackend(daemon: StorageDaemon): ExportBackend {
  return {
    kind: 'storage-daemon',
    open: async (layer) => {
      const node = nodeNames.next();
      await daemon.openImage(node, writableLayer(layer.path, layer.parents));
      const close = () => daemon.closeImage(node);
      try {
        await daemon.addExport(node, `x${node}`, {
          type: 'nbd',
          exportName: layer.exportName,
          writable: true,
        });
      } catch (error) {
        await close();
        throw error;
      }
      return {
        endpoint: { socketPath: daemon.nbdSocket, exportName: layer.exportName },
        tuning: { connections: 3, inFlight: 2, canWriteZeroes: true },
        close,
        [Symbol.asyncDispose]: close,
      };
    },
  };
}
