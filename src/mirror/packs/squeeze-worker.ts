import { parentPort, workerData } from 'node:worker_threads';
import { constants, zstdCompressSync } from 'node:zlib';
import { giveBack } from '../../base/give-back.ts';
import { BLOCK_BYTES } from '../../nbd/mover/rows/rows.ts';
import type { SqueezeReply, SqueezeTask, SqueezeWork } from './squeeze-pool.ts';

/** What zstd adds at most to 1 MiB that cannot be compressed, and more. */
const ZSTD_MARGIN_BYTES = 16 * 1024;
/** Less gain than this is not worth the work of unpacking. */
const WORTH_IT = 0.97;

const { slots, level } = workerData as SqueezeWork;
const all = Buffer.from(slots);

/** Leaves in the slot what is to be stored. */
function squeeze({ id, slot, rawBytes }: SqueezeTask): SqueezeReply {
  const content = all.subarray(slot * BLOCK_BYTES, slot * BLOCK_BYTES + rawBytes);
  const packed = zstdCompressSync(content, {
    // in one piece, which is not copied once more
    chunkSize: rawBytes + ZSTD_MARGIN_BYTES,
    params: { [constants.ZSTD_c_compressionLevel]: level },
  });
  const storedBytes = packed.length;
  const isWorthIt = storedBytes < rawBytes * WORTH_IT;
  if (isWorthIt) packed.copy(content);
  giveBack(packed);
  return isWorthIt ? { id, codec: 'zstd', storedBytes } : { id, codec: 'raw', storedBytes: rawBytes };
}

parentPort?.on('message', (task: SqueezeTask) => {
  try {
    parentPort?.postMessage(squeeze(task));
  } catch (error) {
    parentPort?.postMessage({ id: task.id, failure: String(error) } satisfies SqueezeReply);
  }
});
