import { blake3 } from '@napi-rs/blake-hash';
import type { NbdConnection } from '../../nbd/client/nbd-connection.ts';
import { BLOCK_BYTES, type Row, readRows } from '../../nbd/mover/rows/rows.ts';

/** Requests under way at once: hides the latency of the first, and is little memory. */
const DEPTH = 4;

/**
 * Compares what a guest reads with the rows of a file.
 * @returns the offset of the first row that differs, or null
 * @throws FORMAT_INVALID for a damaged row file; the signal's reason
 */
export async function compareRows(
  guest: NbdConnection,
  rowFile: string,
  signal: AbortSignal,
): Promise<number | null> {
  const running: Promise<number | null>[] = [];
  for await (const row of readRows(rowFile)) {
    signal.throwIfAborted();
    running.push(isSame(guest, row).then((same) => (same ? null : row.offset)));
    if (running.length < DEPTH) continue;
    const wrong = await running.shift();
    if (wrong !== null && wrong !== undefined) return await drained(running, wrong);
  }
  for (const wrong of await Promise.all(running)) if (wrong !== null) return wrong;
  return null;
}

async function drained(running: readonly Promise<number | null>[], wrong: number): Promise<number> {
  await Promise.allSettled(running);
  return wrong;
}

async function isSame(guest: NbdConnection, row: Row): Promise<boolean> {
  if (row.offset + row.size > guest.sizeBytes) return false;
  if (row.b3 !== undefined) {
    const bytes = Buffer.allocUnsafe(row.size);
    await guest.read(row.offset, bytes);
    return blake3(bytes).toString('hex') === row.b3;
  }
  for (let offset = row.offset; offset < row.offset + row.size; ) {
    // a row of zeros may be as long as the disk: holes are asked for, not read
    const left = Math.min(row.offset + row.size - offset, 1024 * BLOCK_BYTES);
    const [extent] = guest.canReportStatus ? await guest.blockStatus(offset, left) : [];
    const length = Math.min(left, extent?.zero ? extent.length : BLOCK_BYTES);
    if (!extent?.zero) {
      const bytes = Buffer.allocUnsafe(length);
      await guest.read(offset, bytes);
      if (!bytes.every((byte) => byte === 0)) return false;
    }
    offset += length;
  }
  return true;
}
