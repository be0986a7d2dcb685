import { join } from 'node:path';
import { writableLayer } from '../../qemu/block-graph.ts';
import type { StorageDaemon } from '../../qemu/storage-daemon.ts';
import type { ExportBackend } from './export-backend.ts';
import type { NbdServer } from './nbd-server.ts';
import { nodeNames } from './node-names.ts';

interface NbdServerBackendDeps {
  readonly daemon: StorageDaemon;
  readonly server: NbdServer;
  /** Folder for the FUSE files. */
  readonly fuseFolder: string;
}

/**
 * client → nbd-server → FUSE file → qemu-storage-daemon → qcow2: the stock server that operators know, its
 * configuration on disk. nbd-server never sees a qcow2: it would let a client overwrite the header.
 */
export function nbdServerBackend(deps: NbdServerBackendDeps): ExportBackend {
  return {
    kind: 'nbd-server',
    open: async (layer) => {
      const node = nodeNames.next();
      const mountpoint = join(deps.fuseFolder, layer.exportName);
      await deps.daemon.openImage(node, writableLayer(layer.path, layer.parents));
      const close = async () => {
        await deps.server.remove(layer.exportName);
        // also deletes the FUSE file: a late client is refused instead of writing into nothing
        await deps.daemon.closeImage(node);
      };
      try {
        await deps.daemon.addExport(node, `x${node}`, { type: 'fuse', mountpoint, writable: true });
        await deps.server.add(layer.exportName, mountpoint, layer.sizeBytes);
      } catch (error) {
        await close();
        throw error;
      }
      return {
        endpoint: { socketPath: deps.server.socketPath, exportName: layer.exportName },
        // FUSE requests of one export are served one by one; more in flight only makes threads wait
        tuning: { connections: 2, inFlight: 4, canWriteZeroes: false },
        close,
        [Symbol.asyncDispose]: close,
      };
    },
  };
}
