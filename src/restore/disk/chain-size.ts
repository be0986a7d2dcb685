import { messageOf, SendenseError } from '../../base/sendense-error.ts';
import { parseNbdImage } from '../../qemu/block-graph.ts';
import { headerObjection, type Qcow2Header, readQcow2Header } from '../../qemu/qcow2-header.ts';

/**
 * Reads the header of every layer before QEMU sees any of them: an external data file named in a header would
 * be opened by QEMU even in a graph that is written out in full.
 * @param chain absolute paths, newest layer first
 * @returns the virtual size of the newest layer in bytes
 * @throws CHAIN_PARENT_MISSING, LAYER_REFUSED
 */
export async function readChainSize(chain: readonly string[]): Promise<number> {
  const served = chain[0] === undefined ? null : parseNbdImage(chain[0]);
  // our own program serves it: there are no headers
  if (served) return served.sizeBytes;
  const headers = await Promise.all(chain.map(readHeader));
  const newest = headers[0];
  if (!newest) throw new SendenseError('INTERNAL', { detail: 'a chain without layers' });
  return newest.virtualSizeBytes;
}

async function readHeader(layer: string): Promise<Qcow2Header> {
  let header: Qcow2Header | null;
  try {
    header = await readQcow2Header(layer);
  } catch (error) {
    if (error instanceof RangeError)
      throw new SendenseError('LAYER_REFUSED', { layer, detail: messageOf(error) }, error);
    throw new SendenseError('CHAIN_PARENT_MISSING', { layer }, error);
  }
  const objection = header === null ? 'it is not a qcow2 image' : headerObjection(header);
  if (header === null || objection !== null)
    throw new SendenseError('LAYER_REFUSED', { layer, detail: objection ?? '' });
  return header;
}
