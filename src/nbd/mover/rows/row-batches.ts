import type { Row, RowSink } from './rows.ts';

/** Rows of one stretch of the disk; what has none in it is as in the parent. */
export interface RowBatch {
  readonly from: number;
  readonly until: number;
  readonly rows: readonly Row[];
}

/** A message of so many rows stays under 100 KiB. */
const MAX_ROWS = 1_000;

/** Hands rows out in stretches, for who keeps them elsewhere than in a file. */
export class RowBatches implements RowSink {
  readonly #give: (batch: RowBatch) => Promise<void>;
  #rows: Row[] = [];
  #from: number;

  /** @param from byte at which the first stretch begins */
  constructor(from: number, give: (batch: RowBatch) => Promise<void>) {
    this.#from = from;
    this.#give = give;
  }

  async write(row: Row): Promise<void> {
    this.#rows.push(row);
    if (this.#rows.length >= MAX_ROWS) await this.reached(row.offset + row.size);
  }

  async reached(until: number): Promise<void> {
    if (until === this.#from) return;
    const batch = { from: this.#from, until, rows: this.#rows };
    this.#from = until;
    this.#rows = [];
    await this.#give(batch);
  }
}
