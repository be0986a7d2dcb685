import type { WorkItem } from './plan/block-plan.ts';
import type { Row, RowSink } from './rows/rows.ts';

interface Entry {
  readonly item: WorkItem;
  row: Row | null;
  state: 'taken' | 'done' | 'flushed';
  bytes: number;
  isReplay: boolean;
}

/** Where a transfer goes on that another attempt began. */
export interface Resume {
  /** Everything before is flushed and has its rows. */
  readonly from: number;
  /** Up to there something may have been written, and nobody knows what. */
  readonly replayUntil: number;
}

export interface TakenItem {
  readonly sequence: number;
  readonly item: WorkItem;
  /** Part of it may have been written before. */
  readonly isReplay: boolean;
  /** It was handed out before. */
  readonly isAgain: boolean;
}

/**
 * Remembers every item from the moment it is taken until its writes are flushed. Rows go out only then, in
 * order; after a lost connection everything that was not flushed is done again (writes are idempotent).
 */
export class FlushLedger {
  readonly #planFrom: (offset: number) => AsyncIterable<WorkItem>;
  #plan: AsyncIterator<WorkItem> | null = null;
  /** End of the last item that was taken. */
  #planned: number;
  /** An earlier attempt may have written up to there. */
  readonly #replayUntil: number;
  readonly #rows: RowSink;
  readonly #entries = new Map<number, Entry>();
  #replay: number[] = [];
  #nextSequence = 0;
  #emitted = 0;
  #planEnded = false;
  #taking: Promise<unknown> = Promise.resolve();
  unflushedBytes = 0;

  /** @param planFrom the work from there on; asked for again when the source was lost in the middle of it */
  constructor(
    planFrom: (offset: number) => AsyncIterable<WorkItem>,
    rows: RowSink,
    resume: Resume = { from: 0, replayUntil: 0 },
  ) {
    this.#planFrom = planFrom;
    this.#rows = rows;
    this.#planned = resume.from;
    this.#replayUntil = resume.replayUntil;
  }

  /** How many items wait for a flush. */
  get waiting(): number {
    return this.#entries.size;
  }

  /** The next item; null at the end. Lanes may call it at once, it hands out in order. */
  take(): Promise<TakenItem | null> {
    const taken = this.#taking.then(() => this.#takeNext());
    this.#taking = taken.catch(() => undefined);
    return taken;
  }

  async #takeNext(): Promise<TakenItem | null> {
    const again = this.#replay.shift();
    if (again !== undefined) {
      const entry = this.#entries.get(again);
      if (entry) return { sequence: again, item: entry.item, isReplay: true, isAgain: true };
    }
    if (this.#planEnded) return null;
    this.#plan ??= this.#planFrom(this.#planned)[Symbol.asyncIterator]();
    const next = await this.#plan.next().catch((error: unknown) => {
      // a generator that threw says ever after that it is done, and the rest of the disk would be left out
      this.#plan = null;
      throw error;
    });
    if (next.done) {
      this.#planEnded = true;
      return null;
    }
    this.#planned = next.value.offset + next.value.length;
    const sequence = this.#nextSequence;
    this.#nextSequence += 1;
    const isReplay = next.value.offset < this.#replayUntil;
    this.#entries.set(sequence, { item: next.value, row: null, state: 'taken', bytes: 0, isReplay });
    return { sequence, item: next.value, isReplay, isAgain: false };
  }

  /** The item is written (not yet flushed). @param row null when the parent's row still holds */
  done(sequence: number, row: Row | null, bytesWritten: number): void {
    const entry = this.#entries.get(sequence);
    if (!entry) return;
    entry.row = row;
    entry.bytes = bytesWritten;
    // what wrote nothing needs no flush, but its row still waits for its turn; a replay that finds its bytes in place
    // may be looking at its own earlier write, which nobody has flushed yet
    entry.state = bytesWritten === 0 && !entry.isReplay ? 'flushed' : 'done';
    this.unflushedBytes += bytesWritten;
  }

  /** Flushes through `flush`, then lets the rows go that are proven to be on disk. */
  async flushed(flush: () => Promise<void>): Promise<void> {
    const covered = [...this.#entries].filter(([, entry]) => entry.state === 'done');
    if (covered.length > 0) await flush();
    for (const [, entry] of covered) {
      entry.state = 'flushed';
      this.unflushedBytes -= entry.bytes;
    }
    await this.#emit();
  }

  /** After a lost connection: everything not flushed is handed out again. @returns those items */
  replayUnflushed(): WorkItem[] {
    const lost = [...this.#entries]
      .filter(([, entry]) => entry.state !== 'flushed')
      .sort(([a], [b]) => a - b);
    for (const [, entry] of lost) {
      if (entry.state === 'done') this.unflushedBytes -= entry.bytes;
      entry.state = 'taken';
      entry.isReplay = true;
      entry.row = null;
    }
    this.#replay = lost.map(([sequence]) => sequence);
    return lost.map(([, entry]) => entry.item);
  }

  async #emit(): Promise<void> {
    let until: number | null = null;
    for (;;) {
      const entry = this.#entries.get(this.#emitted);
      if (entry?.state !== 'flushed') break;
      until = entry.item.offset + entry.item.length;
      this.#entries.delete(this.#emitted);
      this.#emitted += 1;
      if (entry.row) await this.#rows.write(entry.row);
    }
    if (until !== null) await this.#rows.reached(until);
  }
}
