import { SendenseError } from '../../../base/sendense-error.ts';
import { STEP_BYTES } from '../plan/block-masks.ts';
import { type ParentView, planBlocks, type WorkItem } from '../plan/block-plan.ts';
import type { SourceExtent } from '../read/block-reader.ts';
import { BLOCK_BYTES } from '../rows/rows.ts';

type State = 'same' | 'zero' | 'data';

interface Stretch {
  readonly offset: number;
  readonly length: number;
  readonly state: State;
  /** Known to read as zeros; then `same` says the same of the parent. */
  readonly zero: boolean;
}

const stateOf = ({ changed, zero }: SourceExtent): State =>
  changed === false ? 'same' : zero ? 'zero' : 'data';

/**
 * The work for a layer above `parent` when the source knows what changed. Changed data is written and changed zeros
 * too, since the parent holds old data there; what did not change is not even read. What the disk grew by is as in a
 * full, whatever the source says of it.
 * @param from a multiple of STEP_BYTES
 * @throws CHANGES_WRONG when the source calls unchanged what cannot be
 */
export async function* planChanges(
  extents: AsyncIterable<SourceExtent>,
  sizeBytes: number,
  parent: ParentView,
  from = 0,
): AsyncGenerator<WorkItem> {
  // the parent's last cluster may be cut off; what lies behind its end in there reads as zeros
  const oldEnd = Math.min(sizeBytes, Math.ceil(parent.sizeBytes / STEP_BYTES) * STEP_BYTES);
  const growth: SourceExtent[] = [];
  for await (const stretch of alignToSteps(extents, sizeBytes, from)) {
    const end = stretch.offset + stretch.length;
    const oldPart = Math.min(end, oldEnd) - stretch.offset;
    if (oldPart > 0) yield* itemsOf({ ...stretch, length: oldPart }, parent);
    const newStart = Math.max(stretch.offset, oldEnd);
    if (newStart < end) growth.push({ offset: newStart, length: end - newStart, zero: stretch.zero });
  }
  const [first] = growth;
  if (first) yield* grown(growth, first.offset, sizeBytes);
}

async function* itemsOf(stretch: Stretch, parent: ParentView): AsyncGenerator<WorkItem> {
  const { offset, length, state } = stretch;
  if (state === 'same') {
    if (stretch.zero) await proveUnchanged(stretch, parent);
    yield { kind: 'unchanged', offset, length };
    return;
  }
  const end = offset + length;
  for (let at = offset; at < end; ) {
    const next = Math.min(end, (Math.floor(at / BLOCK_BYTES) + 1) * BLOCK_BYTES);
    yield { kind: state === 'zero' ? 'mask' : 'replace', offset: at, length: next - at };
    at = next;
  }
}

/**
 * A disk that was shrunk and grown again has lost content, and its bitmap does not say so: the source reads as zeros
 * what the parent has data for. Only whole blocks can be told so, from their rows.
 */
async function proveUnchanged({ offset, length }: Stretch, parent: ParentView): Promise<void> {
  const end = Math.min(offset + length, parent.sizeBytes);
  for (let at = Math.ceil(offset / BLOCK_BYTES) * BLOCK_BYTES; at < end; at += BLOCK_BYTES) {
    const size = Math.min(BLOCK_BYTES, parent.sizeBytes - at);
    if (at + size > end) return;
    const known = await parent.rows.covering(at, size);
    if (known !== null && !known.row.zero) throw new SendenseError('CHANGES_WRONG', { offset: at });
  }
}

/** Nothing is below it, so it is planned as a full; up to the next block boundary in a piece of its own. */
async function* grown(
  extents: readonly SourceExtent[],
  start: number,
  sizeBytes: number,
): AsyncGenerator<WorkItem> {
  const boundary = Math.min(sizeBytes, Math.ceil(start / BLOCK_BYTES) * BLOCK_BYTES);
  if (boundary > start) yield { kind: 'copy', offset: start, length: boundary - start };
  if (boundary >= sizeBytes) return;
  const behind = extents
    .filter((extent) => extent.offset + extent.length > boundary)
    .map((extent) => {
      const offset = Math.max(extent.offset, boundary);
      return { offset, length: extent.offset + extent.length - offset, zero: extent.zero };
    });
  yield* planBlocks(streamOf(behind), sizeBytes, null, boundary);
}

async function* streamOf(extents: readonly SourceExtent[]): AsyncGenerator<SourceExtent> {
  yield* extents;
}

/** Whole steps: one in which something changed is data, unless all of it changed to zeros. Without gaps, in order. */
async function* alignToSteps(
  extents: AsyncIterable<SourceExtent>,
  sizeBytes: number,
  from: number,
): AsyncGenerator<Stretch> {
  /** End of what was given out, always on a boundary. */
  let done = from;
  const data = (end: number): Stretch => ({ offset: done, length: end - done, state: 'data', zero: false });
  for await (const extent of extents) {
    const state = stateOf(extent);
    const end = extent.offset + extent.length;
    if (state === 'data') {
      const stop = Math.min(sizeBytes, Math.ceil(end / STEP_BYTES) * STEP_BYTES);
      if (stop > done) yield data(stop);
      done = Math.max(done, stop);
      continue;
    }
    const start = Math.max(done, Math.ceil(extent.offset / STEP_BYTES) * STEP_BYTES);
    const stop = end >= sizeBytes ? sizeBytes : Math.floor(end / STEP_BYTES) * STEP_BYTES;
    if (stop <= start) continue; // too small: what is around it takes the step
    if (start > done) yield data(start);
    yield { offset: start, length: stop - start, state, zero: extent.zero };
    done = stop;
  }
  if (done < sizeBytes) yield data(sizeBytes);
}
