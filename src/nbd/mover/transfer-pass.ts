import { SendenseError } from '../../base/sendense-error.ts';
import type { NbdConnection } from '../client/nbd-connection.ts';
import type { BlockContent } from './digest-pool.ts';
import type { FlushLedger, TakenItem } from './flush-ledger.ts';
import type { MoveDeps } from './move-deps.ts';
import { allSteps, runsOf } from './plan/block-masks.ts';
import { BLOCK_BYTES, type Row } from './rows/rows.ts';

/** A flush covers at most so much, so that a cut connection costs little and write-back starts early. */
const FLUSH_BYTES = 256 * 1024 * 1024;
/** And at most so many items, which bounds the rows held in memory. */
const FLUSH_ITEMS = 512;
/** Who may have to go on elsewhere should not lose more than so much of a slow transfer. */
const SAFE_EVERY_MS = 2_000;

/** One try with one set of connections; it ends with everything flushed, or throws at the first failure. */
export class TransferPass {
  readonly #deps: MoveDeps;
  readonly #ledger: FlushLedger;
  readonly #connections: readonly NbdConnection[];
  readonly #onFlushed: () => void;
  readonly #zeros = Buffer.alloc(BLOCK_BYTES);
  #failure: unknown = null;
  #flushedMs = performance.now();
  #flushing: Promise<void> | null = null;

  constructor(
    deps: MoveDeps,
    ledger: FlushLedger,
    connections: readonly NbdConnection[],
    onFlushed: () => void,
  ) {
    this.#deps = deps;
    this.#ledger = ledger;
    this.#connections = connections;
    this.#onFlushed = onFlushed;
  }

  async run(): Promise<void> {
    const { tuning, signal } = this.#deps;
    const abort = () => this.#fail(new SendenseError('CANCELLED'));
    signal.addEventListener('abort', abort, { once: true });
    try {
      const lanes = Array.from({ length: tuning.connections * tuning.inFlight }, (_, lane) =>
        this.#lane(lane),
      );
      await Promise.all(lanes);
      await this.#flushing;
      if (this.#failure === null) await this.#flush();
    } finally {
      signal.removeEventListener('abort', abort);
    }
    if (this.#failure !== null) throw this.#failure;
  }

  /** The first failure wins; cutting the connections wakes every lane that waits. */
  #fail(error: unknown): void {
    if (this.#failure !== null) return;
    this.#failure = error ?? new Error('unknown failure');
    for (const connection of this.#connections) connection.destroy();
  }

  async #lane(lane: number): Promise<void> {
    const connection = this.#connections[lane % this.#connections.length];
    if (!connection) return;
    try {
      for (;;) {
        const taken = await this.#ledger.take();
        if (taken === null || this.#failure !== null) return;
        const { row, bytes } = await this.#handle(taken, connection, lane);
        this.#ledger.done(taken.sequence, row, bytes);
        this.#deps.progress.processedBytes += taken.isAgain ? 0 : taken.item.length;
        if (this.#isFlushDue()) await this.#startFlush();
      }
    } catch (error) {
      this.#fail(error);
    }
  }

  #isFlushDue(): boolean {
    if (this.#ledger.unflushedBytes >= FLUSH_BYTES || this.#ledger.waiting >= FLUSH_ITEMS) return true;
    return performance.now() - this.#flushedMs >= SAFE_EVERY_MS;
  }

  /** One flush at a time; the lane that finds it due waits for it, the others go on. */
  async #startFlush(): Promise<void> {
    if (this.#flushing) return;
    this.#flushing = this.#flush();
    try {
      await this.#flushing;
    } finally {
      this.#flushing = null;
    }
  }

  async #flush(): Promise<void> {
    const [connection] = this.#connections;
    this.#flushedMs = performance.now();
    await this.#ledger.flushed(async () => {
      await connection?.flush();
      this.#onFlushed();
    });
  }

  async #handle(
    taken: TakenItem,
    connection: NbdConnection,
    lane: number,
  ): Promise<{ row: Row | null; bytes: number }> {
    const { item } = taken;
    const { offset, length } = item;
    switch (item.kind) {
      case 'unchanged':
        return { row: null, bytes: 0 };
      case 'hole':
        return { row: { offset, size: length, zero: true }, bytes: 0 };
      case 'mask':
        await this.#writeZeros(connection, offset, length);
        return { row: { offset, size: length, zero: true }, bytes: length };
      case 'copy': {
        const content = await this.#readSource(offset, lane, length);
        const data = allSteps(length) & ~content.zeroMask;
        const bytes = await this.#writeSteps(
          connection,
          lane,
          item,
          data,
          0,
          taken.isReplay ? content.zeroMask : 0,
        );
        return { row: rowOf(offset, length, content.digest), bytes };
      }
      case 'replace': {
        const { digest, zeroMask } = await this.#readSource(offset, lane, length);
        const bytes = await this.#writeSteps(
          connection,
          lane,
          item,
          allSteps(length) & ~zeroMask,
          zeroMask,
          0,
        );
        return { row: rowOf(offset, length, digest), bytes };
      }
      case 'compare':
        return await this.#compare(taken, item.known, connection, lane);
    }
  }

  async #readSource(offset: number, lane: number, length: number): Promise<BlockContent> {
    const content = await this.#deps.source.read(this.#deps.pool, offset, lane, length);
    this.#deps.progress.readBytes += length;
    return content;
  }

  async #compare(
    taken: TakenItem,
    known: { readonly row: Row; readonly layer: number } | null,
    connection: NbdConnection,
    lane: number,
  ): Promise<{ row: Row | null; bytes: number }> {
    const { pool, parentLayers } = this.#deps;
    const { offset, length } = taken.item;
    const content = await this.#readSource(offset, lane, length);
    if (known && (known.row.b3 ?? null) === content.digest && !taken.isReplay) return { row: null, bytes: 0 };
    // the new layer shows its parent's bytes until it is written to
    const below = lane + this.#deps.tuning.connections * this.#deps.tuning.inFlight;
    await this.#deps.throttle.take(length);
    await connection.read(offset, pool.slot(below, length));
    if (known && !taken.isReplay) {
      const parentContent = await pool.digest(below, length);
      if (parentContent.digest !== (known.row.b3 ?? null)) {
        const layer = parentLayers[known.layer] ?? 'the parent';
        throw new SendenseError('LAYER_CORRUPT', {
          layer,
          detail: `its content at byte ${offset} is not what was backed up`,
        });
      }
    }
    const { differenceMask } = await pool.compare(lane, below, length);
    const bytes = await this.#writeSteps(
      connection,
      lane,
      taken.item,
      differenceMask & ~content.zeroMask,
      differenceMask & content.zeroMask,
      0,
    );
    return { row: rowOf(offset, length, content.digest), bytes };
  }

  /**
   * Writes the steps of a block: `data` from the slot, `zero` as zeros.
   * @param stale steps that an earlier try may have filled with what the source no longer has
   */
  async #writeSteps(
    connection: NbdConnection,
    lane: number,
    item: { readonly offset: number; readonly length: number },
    data: number,
    zero: number,
    stale: number,
  ): Promise<number> {
    const block = this.#deps.pool.slot(lane, item.length);
    let bytes = 0;
    for (const run of runsOf(data, item.length)) {
      this.#deps.written.mark(item.offset + run.start, run.length);
      await this.#deps.throttle.take(run.length);
      await connection.write(item.offset + run.start, block.subarray(run.start, run.start + run.length));
      this.#deps.progress.writtenBytes += run.length;
      bytes += run.length;
    }
    for (const run of runsOf(zero | stale, item.length)) {
      await this.#writeZeros(connection, item.offset + run.start, run.length);
      bytes += run.length;
    }
    return bytes;
  }

  async #writeZeros(connection: NbdConnection, offset: number, length: number): Promise<void> {
    if (this.#deps.tuning.canWriteZeroes && connection.canWriteZeroes)
      await connection.writeZeroes(offset, length);
    else {
      await this.#deps.throttle.take(length);
      await connection.write(offset, this.#zeros.subarray(0, length));
    }
    this.#deps.progress.writtenBytes += length;
  }
}

const rowOf = (offset: number, size: number, digest: string | null): Row =>
  digest === null ? { offset, size, zero: true } : { offset, size, b3: digest };
