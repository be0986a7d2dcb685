import { rm } from 'node:fs/promises';
import type { Logger } from '../../base/logger.ts';
import { type Row, readRows } from '../../nbd/mover/rows/rows.ts';
import { loneLayer } from '../../qemu/block-graph.ts';
import { CLUSTER_BYTES, mapImage } from '../../qemu/qemu-img.ts';
import { compareRows } from '../copy/compare-rows.ts';
import { GuestReader } from '../copy/guest-reader.ts';

interface ProofOrder {
  /** The layer, closed, and the layers below it, newest first; absolute paths. */
  readonly chain: readonly [string, ...string[]];
  readonly rowFile: string;
  /** For the socket of the tool that reads; made and removed. */
  readonly workFolder: string;
  readonly signal: AbortSignal;
}

/**
 * Reads back a layer whose rows somebody else wrote: what a guest sees at each row must have its digest, and nothing may
 * be in the layer that no row covers. With both, whoever reads this chain later sees just what its rows say.
 * @returns the byte at which it is not so, and why; null: it is proven
 * @throws FORMAT_INVALID for a damaged row file, TOOL_…, CANCELLED
 */
export async function disproveRows(
  deps: { readonly logger: Logger },
  order: ProofOrder,
): Promise<{ offset: number; detail: string } | null> {
  const { chain, rowFile, signal } = order;
  const uncovered = await firstUncovered(chain[0], rowFile, signal);
  if (uncovered !== null) return { offset: uncovered, detail: 'something was written that no row tells of' };
  const wrong = await firstWrong(deps, order);
  return wrong === null ? null : { offset: wrong, detail: 'what arrived has another digest than was said' };
}

async function firstWrong(
  { logger }: { readonly logger: Logger },
  { chain, rowFile, workFolder, signal }: ProofOrder,
): Promise<number | null> {
  try {
    await using guest = await GuestReader.open({ logger, workFolder }, chain);
    return await compareRows(guest.connection, rowFile, signal);
  } finally {
    await rm(workFolder, { recursive: true, force: true });
  }
}

/** Rows are widened to whole clusters: of a cluster that is written in part, QEMU copies the rest from below. */
async function firstUncovered(layer: string, rowFile: string, signal: AbortSignal): Promise<number | null> {
  const present: { offset: number; end: number }[] = [];
  await mapImage(
    loneLayer(layer),
    (extent) => {
      if (!extent.present) return;
      const last = present.at(-1);
      const end = extent.offset + extent.length;
      if (last?.end === extent.offset) last.end = end;
      else present.push({ offset: extent.offset, end });
    },
    signal,
  );
  const covered = coveredRanges(readRows(rowFile));
  let range = await covered.next();
  for (const { offset, end } of present) {
    for (let position = offset; position < end; ) {
      while (!range.done && range.value.end <= position) range = await covered.next();
      if (range.done || range.value.offset > position) return position;
      position = range.value.end;
    }
  }
  await covered.return(undefined);
  return null;
}

async function* coveredRanges(
  rows: AsyncIterable<Row>,
): AsyncGenerator<{ offset: number; end: number }, void, undefined> {
  let current: { offset: number; end: number } | null = null;
  for await (const row of rows) {
    const offset = Math.floor(row.offset / CLUSTER_BYTES) * CLUSTER_BYTES;
    const end = Math.ceil((row.offset + row.size) / CLUSTER_BYTES) * CLUSTER_BYTES;
    if (current !== null && offset <= current.end) current.end = Math.max(current.end, end);
    else {
      if (current !== null) yield current;
      current = { offset, end };
    }
  }
  if (current !== null) yield current;
}
