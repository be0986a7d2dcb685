import { readSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { blake3 } from '@napi-rs/blake-hash';
import type { DigestReply, DigestTask } from './digest-pool.ts';
import { allSteps, differenceMask, STEP_BYTES, zeroMask } from './plan/block-masks.ts';
import { BLOCK_BYTES } from './rows/rows.ts';

// Reading and hashing in one place keeps the block in the core's cache and off the main thread.
const { slots } = workerData as { slots: SharedArrayBuffer };
const all = Buffer.from(slots);
const zeros = Buffer.alloc(STEP_BYTES);

const slotOf = (slot: number, length: number) =>
  all.subarray(slot * BLOCK_BYTES, slot * BLOCK_BYTES + length);

/** @returns false when the file ends before the block does */
function readFully(fd: number, into: Buffer, offset: number): boolean {
  let filled = 0;
  while (filled < into.length) {
    const count = readSync(fd, into, filled, into.length - filled, offset + filled);
    if (count === 0) return false;
    filled += count;
  }
  return true;
}

function answer(task: DigestTask): DigestReply {
  const block = slotOf(task.slot, task.length);
  if (task.fd !== null && !readFully(task.fd, block, task.offset))
    return { id: task.id, failure: { errno: null, message: 'the disk ends early' } };
  const zero = zeroMask(block, zeros);
  const isZero = zero === allSteps(task.length);
  const difference = task.otherSlot === null ? 0 : differenceMask(block, slotOf(task.otherSlot, task.length));
  return {
    id: task.id,
    zeroMask: zero,
    differenceMask: difference,
    digest: isZero ? null : blake3(block).toString('hex'),
  };
}

parentPort?.on('message', (task: DigestTask) => {
  try {
    parentPort?.postMessage(answer(task));
  } catch (error) {
    const errno = error instanceof Error && 'code' in error ? String(error.code) : null;
    parentPort?.postMessage({
      id: task.id,
      failure: { errno, message: String(error) },
    } satisfies DigestReply);
  }
});
