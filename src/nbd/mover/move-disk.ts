import { setTimeout as sleep } from 'node:timers/promises';
import { hasCode, messageOf, SendenseError } from '../../base/sendense-error.ts';
import { NbdConnection, type NbdEndpoint } from '../client/nbd-connection.ts';
import { NbdConnectionLost, NbdReplyError } from '../client/protocol.ts';
import type { TransferTuning } from '../exports/export-backend.ts';
import { planChanges } from './changes/plan-changes.ts';
import type { BlockContent, DigestPool } from './digest-pool.ts';
import { FlushLedger, type Resume, type TakenItem } from './flush-ledger.ts';
import { allSteps, runsOf } from './plan/block-masks.ts';
import { type ParentView, planBlocks, type WorkItem } from './plan/block-plan.ts';
import type { BlockReader } from './read/block-reader.ts';
import { BLOCK_BYTES, type Row, type RowSink } from './rows/rows.ts';
import type { Throttle } from './throttle.ts';
import type { WrittenMap } from './written-map.ts';

/** A flush covers at most so much, so that a cut connection costs little and write-back starts early. */
const FLUSH_BYTES = 256 * 1024 * 1024;
/** And at most so many items, which bounds the rows held in memory. */
const FLUSH_ITEMS = 512;
/** Who may have to go on elsewhere should not lose more than so much of a slow transfer. */
export const SAFE_EVERY_MS = 2_000;
/** How long an export may stay away before the transfer is given up. */
const RECONNECT_TIMEOUT_MS = 30_000;
/** Failures in a row without any flush in between. */
const MAX_FAILURES = 5;

export interface MoveProgress {
  /** Bytes of the disk that are dealt with, however. */
  processedBytes: number;
  readBytes: number;
  writtenBytes: number;
  reconnects: number;
}

interface MoveDeps {
  readonly source: BlockReader;
  readonly target: NbdEndpoint;
  readonly tuning: TransferTuning;
  readonly parent: ParentView | null;
  /** Name of each parent layer, newest first, for error messages. */
  readonly parentLayers: readonly string[];
  /** Must have `slotsFor(tuning, parent)` slots. */
  readonly pool: DigestPool;
  readonly rows: RowSink;
  readonly resume: Resume;
  readonly throttle: Throttle;
  /** Flush at least so often, ms; null: only by amount. */
  readonly flushEveryMs: number | null;
  readonly written: WrittenMap;
  readonly progress: MoveProgress;
  readonly signal: AbortSignal;
}

/** Slots the mover needs: one for each request in flight, and one more each for the parent's block. */
export const slotsFor = (tuning: TransferTuning, hasParent: boolean): number =>
  tuning.connections * tuning.inFlight * (hasParent ? 2 : 1);

/**
 * Copies a disk into an export and writes the rows. Changed data is written, changed zeros are written too (the
 * parent holds old data there), unchanged ranges are left alone. When it returns, everything is flushed.
 * @throws SOURCE_READ_FAILED, SOURCE_CHANGED_SIZE, LAYER_CORRUPT (a parent), CHANGES_WRONG, SOURCE_LOST, REPOSITORY_FULL, EXPORT_LOST, CANCELLED
 */
export async function moveDisk(deps: MoveDeps): Promise<void> {
  const ledger = new FlushLedger((from) => planFrom(deps, from), deps.rows, deps.resume);
  let failures = 0;
  for (;;) {
    deps.signal.throwIfAborted();
    let connections: NbdConnection[] = [];
    try {
      connections = await connectAll(deps);
      const pass = new TransferPass(deps, ledger, connections, () => {
        failures = 0;
      });
      await pass.run();
      await Promise.all(connections.map((connection) => connection.close()));
      return;
    } catch (error) {
      for (const connection of connections) connection.destroy();
      if (deps.signal.aborted) throw new SendenseError('CANCELLED', {}, error);
      const transient = asTransient(error);
      failures += 1;
      if (!transient || failures > MAX_FAILURES) throw finalError(error, deps.target);
      for (const item of ledger.replayUnflushed()) deps.written.unmark(item.offset, item.length);
      deps.progress.reconnects += 1;
      await sleep(100 * 2 ** failures, undefined, { signal: deps.signal }).catch(() => undefined);
      await reconnectSource(deps);
    }
  }
}

function planFrom({ source, parent }: MoveDeps, from: number): AsyncIterable<WorkItem> {
  const extents = source.extents(from);
  if (parent !== null && source.knowsChanges) return planChanges(extents, source.sizeBytes, parent, from);
  return planBlocks(extents, source.sizeBytes, parent, from);
}

const asTransient = (error: unknown): boolean =>
  error instanceof NbdConnectionLost ||
  (error instanceof NbdReplyError && error.errno !== 'ENOSPC') ||
  hasCode(error, 'EXPORT_FAILED');

function finalError(error: unknown, target: NbdEndpoint): unknown {
  if (error instanceof NbdReplyError && error.errno === 'ENOSPC')
    return new SendenseError('REPOSITORY_FULL', { path: target.exportName }, error);
  if (asTransient(error))
    return new SendenseError('EXPORT_LOST', { export: target.exportName, detail: messageOf(error) }, error);
  return error;
}

async function untilDeadline<T>(signal: AbortSignal, attempt: () => Promise<T>): Promise<T> {
  const deadline = Date.now() + RECONNECT_TIMEOUT_MS;
  for (let delayMs = 20; ; delayMs = Math.min(delayMs * 2, 1_000)) {
    try {
      return await attempt();
    } catch (error) {
      if (!asTransient(error) || Date.now() > deadline || signal.aborted) throw error;
      await sleep(delayMs);
    }
  }
}

/** All at once: over a long way each takes several round trips. */
async function connectAll(deps: MoveDeps): Promise<NbdConnection[]> {
  const attempts = await Promise.allSettled(
    Array.from({ length: deps.tuning.connections }, () =>
      untilDeadline(deps.signal, () => NbdConnection.connect(deps.target)),
    ),
  );
  const connections = attempts.flatMap((attempt) => (attempt.status === 'fulfilled' ? [attempt.value] : []));
  try {
    for (const attempt of attempts) if (attempt.status === 'rejected') throw attempt.reason;
    for (const { sizeBytes } of connections)
      if (sizeBytes !== deps.source.sizeBytes)
        throw new SendenseError('NBD_PROTOCOL', {
          endpoint: deps.target.exportName,
          detail: `it has ${sizeBytes} bytes instead of ${deps.source.sizeBytes}`,
        });
    return connections;
  } catch (error) {
    for (const connection of connections) connection.destroy();
    throw error;
  }
}

async function reconnectSource(deps: MoveDeps): Promise<void> {
  try {
    await untilDeadline(deps.signal, () => deps.source.reconnect());
  } catch (error) {
    if (!asTransient(error)) throw error;
    throw new SendenseError('SOURCE_LOST', { path: deps.source.path, detail: messageOf(error) }, error);
  }
}

/** One try with one set of connections; it ends with everything flushed, or throws at the first failure. */
class TransferPass {
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
    const { flushEveryMs } = this.#deps;
    if (this.#ledger.unflushedBytes >= FLUSH_BYTES || this.#ledger.waiting >= FLUSH_ITEMS) return true;
    return flushEveryMs !== null && performance.now() - this.#flushedMs >= flushEveryMs;
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
