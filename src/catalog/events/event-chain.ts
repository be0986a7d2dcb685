import { createHash } from 'node:crypto';
import type { EventRow } from './event.ts';

/** What the first row follows. */
export const CHAIN_START = 'sendense-events-1';
/** Told at most; the first one says where to look. */
const MAX_PROBLEMS = 100;

/** Each row's hash is over the one before and over everything in the row. Pure. */
export const hashOfRow = (before: string, row: Omit<EventRow, 'hash'>): string =>
  createHash('sha256')
    .update(
      JSON.stringify([
        before,
        ...[
          row.id,
          row.at,
          row.kind,
          row.severity,
          row.subject,
          row.message,
          row.data,
          row.actor,
          row.origin,
        ],
      ]),
    )
    .digest('hex');

export interface ChainProblem {
  readonly id: number;
  readonly problem: 'changed' | 'removed' | 'inserted' | 'cut-off' | 'replaced';
  readonly detail: string;
}

/** The end of the chain at some time. */
export interface Anchor {
  readonly id: number;
  readonly hash: string;
  readonly at: string;
}

/** Goes along the chain, row by row. */
export class ChainCheck {
  readonly problems: ChainProblem[] = [];
  #before = CHAIN_START;
  #lastId = 0;
  rows = 0;

  get head(): { readonly id: number; readonly hash: string } {
    return { id: this.#lastId, hash: this.#before };
  }

  /** @param anchors of rows that were the end once: none of them may have changed since */
  row(row: EventRow, anchors: readonly Anchor[]): void {
    const expected = hashOfRow(this.#before, row);
    const gap = row.id !== this.#lastId + 1;
    if (row.hash === null) this.#found(row.id, 'inserted', 'it was not written by Sendense');
    else if (gap && expected !== row.hash)
      this.#found(row.id, 'removed', `${row.id - this.#lastId - 1} rows before it are missing`);
    else if (expected !== row.hash)
      this.#found(row.id, 'changed', 'it, or the hash of the row before it, is not as it was written');
    const anchor = anchors.find(({ id, hash }) => id === row.id && hash !== row.hash);
    if (anchor !== undefined)
      this.#found(row.id, 'replaced', `at ${anchor.at} this row had another hash: the log was written anew`);
    this.#before = row.hash ?? expected;
    this.#lastId = row.id;
    this.rows += 1;
  }

  /** @param given how many rows there ever were, as the database counts them */
  end(given: number, anchors: readonly Anchor[]): void {
    const last = Math.max(given, ...anchors.map(({ id }) => id));
    if (last > this.#lastId)
      this.#found(last, 'cut-off', `the log ends with ${this.#lastId}; there were rows up to ${last}`);
  }

  #found(id: number, problem: ChainProblem['problem'], detail: string): void {
    if (this.problems.length < MAX_PROBLEMS) this.problems.push({ id, problem, detail });
  }
}
