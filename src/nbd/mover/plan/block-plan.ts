import type { SourceExtent } from '../read/block-reader.ts';
import type { KnownContent, ParentRows } from '../rows/parent-rows.ts';
import { BLOCK_BYTES } from '../rows/rows.ts';

/**
 * One thing for the mover to do; blocks lie on 1 MiB boundaries, the last one may be short. Where the source tells what
 * changed, a piece of work may be a part of a block.
 */
export type WorkItem =
  /** Read the block, write what is not zero. Nothing is below it. */
  | { readonly kind: 'copy'; readonly offset: number; readonly length: number }
  /** Read the block, write what differs from the parent. */
  | {
      readonly kind: 'compare';
      readonly offset: number;
      readonly length: number;
      readonly known: KnownContent;
    }
  /** Read the range, write all of it: whatever lies below is old. */
  | { readonly kind: 'replace'; readonly offset: number; readonly length: number }
  /** The source reads as zeros where the parent may not: mask it. */
  | { readonly kind: 'mask'; readonly offset: number; readonly length: number }
  /** Zeros over nothing: only a row. May be any length. */
  | { readonly kind: 'hole'; readonly offset: number; readonly length: number }
  /** Known to be as in the parent: only progress. */
  | { readonly kind: 'unchanged'; readonly offset: number; readonly length: number };

/** The parent chain, for an incremental or differential. */
export interface ParentView {
  readonly rows: ParentRows;
  readonly sizeBytes: number;
}

/**
 * Turns the source's extents into whole blocks: a block is a hole only when all of it is.
 * @returns ranges on block boundaries, in order, without gaps
 */
export async function* alignToBlocks(
  extents: AsyncIterable<SourceExtent>,
  sizeBytes: number,
  from = 0,
): AsyncGenerator<SourceExtent> {
  /** End of what was given out, always on a boundary. */
  let done = from;
  for await (const extent of extents) {
    const end = extent.offset + extent.length;
    if (!extent.zero) {
      const stop = end >= sizeBytes ? sizeBytes : Math.ceil(end / BLOCK_BYTES) * BLOCK_BYTES;
      if (stop > done) yield { offset: done, length: Math.min(stop, sizeBytes) - done, zero: false };
      done = Math.max(done, Math.min(stop, sizeBytes));
      continue;
    }
    const start = Math.max(done, Math.ceil(extent.offset / BLOCK_BYTES) * BLOCK_BYTES);
    const stop = end >= sizeBytes ? sizeBytes : Math.floor(end / BLOCK_BYTES) * BLOCK_BYTES;
    if (stop <= start) continue; // too small: the data around it takes the block
    if (start > done) yield { offset: done, length: start - done, zero: false };
    yield { offset: start, length: stop - start, zero: true };
    done = stop;
  }
  if (done < sizeBytes) yield { offset: done, length: sizeBytes - done, zero: false };
}

/** The work for a full onto a fresh image (no parent) or for a layer above `parent`. @param from a block boundary */
export async function* planBlocks(
  extents: AsyncIterable<SourceExtent>,
  sizeBytes: number,
  parent: ParentView | null,
  from = 0,
): AsyncGenerator<WorkItem> {
  for await (const range of alignToBlocks(extents, sizeBytes, from)) {
    const end = range.offset + range.length;
    for (let offset = range.offset; offset < end; ) {
      // beyond the parent's end there is nothing below: as in a full
      const isFresh = parent === null || offset >= parent.sizeBytes;
      if (isFresh && range.zero) {
        yield { kind: 'hole', offset, length: end - offset };
        break;
      }
      const length = Math.min(BLOCK_BYTES, end - offset);
      if (isFresh || parent === null) yield { kind: 'copy', offset, length };
      else {
        const known = await parent.rows.covering(offset, length);
        if (!range.zero) yield { kind: 'compare', offset, length, known };
        else if (known?.row.zero) yield { kind: 'unchanged', offset, length };
        else yield { kind: 'mask', offset, length };
      }
      offset += length;
    }
  }
}
