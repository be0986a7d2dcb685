import { SendenseError } from '../../base/sendense-error.ts';
import { NbdReplyError } from '../../nbd/client/protocol.ts';
import type { DigestPool } from '../../nbd/mover/digest-pool.ts';
import { BLOCK_BYTES } from '../../nbd/mover/rows/rows.ts';
import { WrittenMap } from '../../nbd/mover/written-map.ts';
import { loneLayer } from '../../qemu/block-graph.ts';
import { mapImage } from '../../qemu/qemu-img.ts';
import type { ChainLayer } from '../layers/layer-chain.ts';
import type { ChainView } from './chain-views.ts';
import type { Pace } from './pace.ts';
import { isBeingFilled } from './retired-layer.ts';
import { type VisiblePart, visibleRows } from './visible-rows.ts';

/** Requests in flight: more gain nothing on one connection (measured). */
export const LANES = 8;
/** Slots the pool needs: a lane compares two blocks at most. */
export const SLOTS = LANES * 2;
/** Block status is asked for in ranges of this size, the protocol's requests being 32 bits. */
const STATUS_BYTES = 1024 ** 3;
/** Places of one view that are remembered; of the rest only the number. */
const MAX_PLACES = 64;

export interface InspectDeps {
  /** Must have `SLOTS` slots. */
  readonly pool: DigestPool;
  readonly pace: Pace;
  readonly signal: AbortSignal;
  /** Told how far it is, 0…1, and how many guest bytes were read since the last call. */
  readonly onProgress: (fraction: number, readBytes: number) => void;
}

export interface ViewOrder {
  /** The whole chain of the restore point, newest first. */
  readonly chain: readonly ChainLayer[];
  /** So many of the newest layers are judged; what lies below them was, or will be, judged by itself. */
  readonly judged: number;
  readonly view: ChainView;
  /** The chain below the judged layers; null when there is none. */
  readonly base: ChainView | null;
  /** Opens the same chain from this layer down. */
  readonly openAt: (layer: number) => Promise<ChainView>;
}

export interface BadPlace {
  readonly offset: number;
  readonly size: number;
  /** Whose row it is; 0 is the newest layer of the chain. */
  readonly layer: number;
  readonly detail: string;
}

export interface ViewOutcome {
  readonly rows: number;
  /** Guest bytes that were read. */
  readonly bytes: number;
  /** In order, at most MAX_PLACES. */
  readonly bad: readonly BadPlace[];
  readonly badCount: number;
}

/** One read and what must come of it. */
type Piece = { readonly offset: number; readonly size: number; readonly layer: number } & (
  | { readonly expect: 'digest'; readonly b3: string; readonly from: ChainView }
  | { readonly expect: 'zeros' }
  | { readonly expect: 'same'; readonly as: ChainView }
);

/**
 * Compares what the guest sees at a restore point with the rows: each row that is visible there with its digest, zero
 * rows with zeros, and what a layer holds outside its rows with what lies below it. Together with the same for the
 * layers below, no byte of the disk is left out, and none is read twice.
 * @throws FORMAT_INVALID (rows), TOOL_FAILED, EXPORT_LOST, CANCELLED
 */
export async function inspectView(order: ViewOrder, deps: InspectDeps): Promise<ViewOutcome> {
  const inspection = new Inspection(order, deps);
  const abandon = () => {
    order.view.abandon();
    order.base?.abandon();
  };
  deps.signal.addEventListener('abort', abandon, { once: true });
  try {
    return await inspection.run();
  } catch (error) {
    throw deps.signal.aborted ? new SendenseError('CANCELLED', {}, error) : error;
  } finally {
    deps.signal.removeEventListener('abort', abandon);
  }
}

class Inspection {
  readonly #order: ViewOrder;
  readonly #deps: InspectDeps;
  readonly #bad: BadPlace[] = [];
  /** Views of layers whose rows are partly hidden. */
  readonly #lower = new Map<number, ChainView>();
  #rows = 0;
  #bytes = 0;
  #badCount = 0;

  constructor(order: ViewOrder, deps: InspectDeps) {
    this.#order = order;
    this.#deps = deps;
  }

  async run(): Promise<ViewOutcome> {
    const allocated = await this.#allocated();
    const pieces = this.#pieces(allocated);
    try {
      // a generator answers one call after the other, so all lanes may draw from it
      const lanes = Array.from({ length: LANES }, (_, lane) => this.#lane(lane, pieces));
      const ends = await Promise.allSettled(lanes);
      const failed = ends.find((end) => end.status === 'rejected');
      if (failed) throw failed.reason;
    } finally {
      await pieces.return(undefined);
      for (const view of this.#lower.values()) await view[Symbol.asyncDispose]();
    }
    const bad = this.#bad.toSorted((a, b) => a.offset - b.offset);
    return { rows: this.#rows, bytes: this.#bytes, bad, badCount: this.#badCount };
  }

  /** A bit for each 64 KiB that one of the judged layers holds, as data or as zeros. */
  async #allocated(): Promise<WrittenMap> {
    const { chain, judged, view } = this.#order;
    const map = new WrittenMap(view.sizeBytes);
    for (const { image } of chain.slice(0, judged))
      await mapImage(
        loneLayer(image),
        ({ present, offset, length }) => {
          if (present) map.mark(offset, length);
        },
        this.#deps.signal,
      );
    return map;
  }

  async #lane(lane: number, pieces: AsyncGenerator<Piece>): Promise<void> {
    const { signal, onProgress } = this.#deps;
    for (;;) {
      const next = await pieces.next();
      if (next.done) return;
      if (signal.aborted) throw new SendenseError('CANCELLED');
      const piece = next.value;
      try {
        const problem = await this.#problemOf(piece, lane);
        if (problem !== null) this.#report(piece, problem);
      } catch (error) {
        // an answer: the image itself cannot be read there
        if (error instanceof NbdReplyError) this.#report(piece, `it cannot be read: ${error.errno}`);
        else {
          // the others find nothing more to do
          await pieces.return(undefined);
          throw error;
        }
      }
      onProgress((piece.offset + piece.size) / this.#order.view.sizeBytes, piece.size);
    }
  }

  /** What is wrong there; null when it is as it must be. */
  async #problemOf(piece: Piece, lane: number): Promise<string | null> {
    const { pool, pace, signal } = this.#deps;
    const { offset, size } = piece;
    await pace.take(size, signal);
    const from = piece.expect === 'digest' ? piece.from : this.#order.view;
    await from.read(offset, pool.slot(lane, size));
    this.#bytes += size;
    if (piece.expect === 'same') {
      const other = lane + LANES;
      const inside = Math.max(0, Math.min(size, piece.as.sizeBytes - offset));
      pool.slot(other, size).fill(0);
      // beyond its end the layer below reads as zeros
      if (inside > 0) await piece.as.read(offset, pool.slot(other, inside));
      const { differenceMask } = await pool.compare(lane, other, size);
      return differenceMask === 0 ? null : 'it differs from the layer below, and no row says so';
    }
    const { digest } = await pool.digest(lane, size);
    if (piece.expect === 'zeros') return digest === null ? null : 'it must read as zeros';
    return digest === piece.b3 ? null : `its content ${digest === null ? 'is gone' : 'has another digest'}`;
  }

  #report({ offset, size, layer }: Piece, detail: string): void {
    this.#badCount += 1;
    if (this.#bad.length < MAX_PLACES) this.#bad.push({ offset, size, layer, detail });
  }

  async *#pieces(allocated: WrittenMap): AsyncGenerator<Piece> {
    const { chain, judged, view } = this.#order;
    let end = 0;
    for await (const part of visibleRows(chain.slice(0, judged).map((layer) => layer.rows))) {
      if (part.offset + part.size > view.sizeBytes) throw this.#rowError(part, 'it lies behind the disk');
      yield* this.#uncovered(allocated, end, part.offset);
      yield* this.#row(part);
      end = part.offset + part.size;
    }
    yield* this.#uncovered(allocated, end, view.sizeBytes);
  }

  async *#row(part: VisiblePart): AsyncGenerator<Piece> {
    const { offset, size, row, layer, isWhole } = part;
    if (row.zero) {
      if (row.offset === offset) this.#rows += 1;
      yield* this.#zeros(offset, size, layer);
    } else if (row.size > BLOCK_BYTES) throw this.#rowError(part, 'it is larger than a block');
    else if (isWhole) {
      this.#rows += 1;
      yield { expect: 'digest', offset, size, layer, b3: row.b3, from: this.#order.view };
    } else yield* this.#hiddenRow(part, row.b3);
  }

  /** A digest of which a part is hidden can only be checked at its own layer; here it must look the same. */
  async *#hiddenRow({ offset, size, row, layer }: VisiblePart, b3: string): AsyncGenerator<Piece> {
    const owner = this.#order.chain[layer];
    // while it takes up the layer above it, it is neither the old content nor the new
    if (owner === undefined || isBeingFilled(owner.sidecar)) return;
    let from = this.#lower.get(layer);
    if (!from) {
      from = await this.#order.openAt(layer);
      this.#lower.set(layer, from);
    }
    if (offset === row.offset) this.#rows += 1;
    yield { expect: 'digest', offset: row.offset, size: row.size, layer, b3, from };
    yield { expect: 'same', offset, size, layer: 0, as: from };
  }

  async *#zeros(offset: number, size: number, layer: number): AsyncGenerator<Piece> {
    const end = offset + size;
    for (let at = offset; at < end; ) {
      if (this.#deps.signal.aborted) throw new SendenseError('CANCELLED');
      const extents = await this.#zeroExtents(at, Math.min(STATUS_BYTES, end - at));
      for (const extent of extents) {
        const stop = Math.min(at + extent.length, end);
        if (extent.zero) at = stop;
        for (; at < stop; at += Math.min(BLOCK_BYTES, stop - at))
          yield { expect: 'zeros', offset: at, size: Math.min(BLOCK_BYTES, stop - at), layer };
      }
    }
  }

  /** Where the tables of the image cannot be read, everything is read, and fails there by itself. */
  async #zeroExtents(offset: number, length: number) {
    try {
      return await this.#order.view.zeroExtents(offset, length);
    } catch (error) {
      if (error instanceof NbdReplyError) return [{ length, zero: false }];
      throw error;
    }
  }

  /** What the judged layers hold where none of them has a row. With nothing below it must be zeros. */
  async *#uncovered(allocated: WrittenMap, from: number, to: number): AsyncGenerator<Piece> {
    const { base } = this.#order;
    for (let at = from; at < to; ) {
      const marked = allocated.firstMarked(at, to - at);
      if (marked === null) return;
      const offset = Math.max(marked, at);
      const size = Math.min(BLOCK_BYTES, to - offset);
      if (base === null) yield* this.#zeros(offset, size, 0);
      else yield { expect: 'same', offset, size, layer: 0, as: base };
      at = offset + size;
    }
  }

  #rowError({ row, layer }: VisiblePart, detail: string): SendenseError {
    const path = this.#order.chain[layer]?.rows ?? '';
    return new SendenseError('FORMAT_INVALID', { path, detail: `row at ${row.offset}: ${detail}` });
  }
}
