import { once } from 'node:events';
import { serveExports } from '../../nbd/serve/serve-export.ts';
import type { Mirror } from '../mirror.ts';
import { openPointChain } from '../points/read-point.ts';
import { BlockCache } from './block-cache.ts';
import { MirrorDisk } from './mirror-disk.ts';

interface ServeOrder {
  readonly points: readonly { readonly name: string; readonly exportName: string }[];
  readonly socketPath: string;
  /** Of all disks together. */
  readonly cacheBytes: number;
}

/** Serves disks of a mirror as read-only NBD exports until it is told to stop. */
export async function serveMirror(
  mirror: Mirror,
  order: ServeOrder,
  around: { readonly signal: AbortSignal; readonly onReady: () => void },
): Promise<void> {
  const cache = new BlockCache(order.cacheBytes);
  const disks = await Promise.all(
    order.points.map(
      async ({ name, exportName }) =>
        new MirrorDisk(mirror, exportName, await openPointChain(mirror, name), cache),
    ),
  );
  const stop = await serveExports(order.socketPath, disks);
  around.onReady();
  if (!around.signal.aborted) await once(around.signal, 'abort');
  await stop();
}
