import { statfs } from 'node:fs/promises';
import { SendenseError } from '../../base/sendense-error.ts';
import { formatBytes } from '../../base/units.ts';
import { readOnlyChain } from '../../qemu/block-graph.ts';
import { measureContent } from '../../qemu/qemu-img.ts';
import { readChainSize } from '../disk/chain-size.ts';

interface NewFile {
  /** Virtual size: no sparse file needs much more. */
  readonly sizeBytes: number;
  /** What an earlier try already takes there. */
  readonly usedBytes: number;
  /** What the content needs; asked for only when it could matter, since it walks through all tables. */
  readonly measure: () => Promise<number>;
}

/** @throws OUTPUT_SPACE with both numbers */
async function checkSpace(folder: string, file: NewFile): Promise<void> {
  const { bavail, bsize } = await statfs(folder);
  const availableBytes = bavail * bsize + file.usedBytes;
  if (availableBytes >= file.sizeBytes * 1.01) return;
  const neededBytes = await file.measure();
  if (neededBytes <= availableBytes) return;
  throw new SendenseError('OUTPUT_SPACE', {
    path: folder,
    needed: formatBytes(neededBytes),
    available: formatBytes(availableBytes),
    needed_bytes: neededBytes,
    available_bytes: availableBytes,
  });
}

/**
 * Refuses a new file that will not fit, before anything is written.
 * @param usedBytes what an earlier try already takes there
 * @throws OUTPUT_SPACE with both numbers
 */
export async function checkFits(folder: string, chain: readonly string[], usedBytes: number): Promise<void> {
  const source = readOnlyChain(chain);
  if (source === null) return;
  const sizeBytes = await readChainSize(chain);
  await checkSpace(folder, { sizeBytes, usedBytes, measure: () => measureContent(source) });
}
