import { NbdConnection } from '../../nbd/client/nbd-connection.ts';
import { serveExports } from '../../nbd/serve/serve-export.ts';
import type { ServedDisk } from '../../nbd/serve/served-disk.ts';
import { runsOf } from './volume-map.ts';
import type { PhysicalSource, VolumesSpec } from './volumes-spec.ts';

/**
 * Serves logical volumes as NBD exports, put together from the physical volumes: what the device mapper of a kernel would
 * do, without one.
 * @returns ends it
 */
export async function serveVolumes(spec: VolumesSpec): Promise<() => Promise<void>> {
  const connections = new Map<string, NbdConnection>();
  for (const { endpoint } of Object.values(spec.sources)) {
    if (!connections.has(endpoint.exportName))
      connections.set(endpoint.exportName, await NbdConnection.connect(endpoint, { idleTimeoutMs: 600_000 }));
  }
  const sourceOf = (pv: string): { source: PhysicalSource; connection: NbdConnection } => {
    const source = Object.hasOwn(spec.sources, pv) ? spec.sources[pv] : undefined;
    const connection = connections.get(source?.endpoint.exportName ?? '');
    if (!source || !connection) throw new RangeError(`no physical volume ${pv}`);
    return { source, connection };
  };
  const disks = spec.volumes.map(
    ({ name, sizeBytes, segments }): ServedDisk => ({
      name,
      sizeBytes,
      read: async (offsetBytes, into) => {
        let filled = 0;
        const reads: Promise<void>[] = [];
        for (const run of runsOf(segments, offsetBytes, into.length)) {
          const { source, connection } = sourceOf(run.pv);
          // metadata of a guest may name places that do not exist
          if (run.offsetBytes + run.lengthBytes > source.sizeBytes)
            throw new RangeError('beyond the physical volume');
          const part = into.subarray(filled, filled + run.lengthBytes);
          reads.push(connection.read(source.offsetBytes + run.offsetBytes, part));
          filled += run.lengthBytes;
        }
        await Promise.all(reads);
      },
    }),
  );
  const stop = await serveExports(spec.socketPath, disks);
  return async () => {
    await stop();
    for (const connection of connections.values()) await connection.close();
  };
}
