import { truncate } from 'node:fs/promises';
import type { ImageNode, Qcow2Node } from '../../qemu/block-graph.ts';
import { createLayer } from '../../qemu/qemu-img.ts';

/** Room for the tables of an overlay in which nothing is written yet; below this QEMU cannot even open it. */
const MIN_LIMIT_BYTES = 1024 * 1024;

/**
 * Makes the throw-away layer that journal replay writes to, and the graph that reads what is below through it.
 *
 * A hostile file system could make replay write without end. So the overlay's file is given to QEMU as a raw node
 * of a fixed size: a write that needs more gets ENOSPC from QEMU itself, without a watcher that may come late.
 * @param below read-only
 * @param sizeBytes virtual size of it
 * @param limitBytes most that the overlay may ever hold on disk
 */
export async function createOverlay(
  path: string,
  below: ImageNode,
  sizeBytes: number,
  limitBytes: number,
): Promise<ImageNode> {
  await createLayer(path, sizeBytes, null);
  const boundBytes = Math.max(MIN_LIMIT_BYTES, Math.floor(limitBytes / 512) * 512);
  // a raw node cannot be larger than its file; this only makes a hole
  await truncate(path, boundBytes);
  const bounded = {
    driver: 'raw',
    'read-only': false,
    size: boundBytes,
    file: { driver: 'file', filename: path },
  } as const;
  const overlay = {
    driver: 'qcow2',
    'read-only': false,
    // it is thrown away: no write to it needs to survive anything
    cache: { 'no-flush': true },
    file: bounded,
    backing: below,
  } as const;
  return overlay as unknown as Qcow2Node;
}
