import { type Row, readRows } from './rows.ts';

/** What the parent chain is known to hold at a place. */
export type KnownContent = { readonly row: Row; readonly layer: number } | null;

/** The rows of one layer, asked for in ascending order of places. */
export class RowCursor {
  #row: Row | null = null;
  #ended = false;
  readonly #rows: AsyncGenerator<Row>;

  constructor(rows: AsyncGenerator<Row>) {
    this.#rows = rows;
  }

  /** The row that covers `offset` or the next one after it. */
  async at(offset: number): Promise<Row | null> {
    while (!this.#ended && (this.#row === null || this.#row.offset + this.#row.size <= offset)) {
      const next = await this.#rows.next();
      if (next.done) {
        this.#ended = true;
        this.#row = null;
      } else this.#row = next.value;
    }
    return this.#row;
  }

  async close(): Promise<void> {
    await this.#rows.return(undefined);
  }
}

/**
 * The rows of a whole chain seen as one: at each place the newest layer's row wins. It streams, so the memory it
 * takes does not depend on the disk size; places must be asked for in ascending order.
 */
export class ParentRows implements AsyncDisposable {
  readonly #cursors: readonly RowCursor[];

  /** @param rowFiles newest layer first */
  constructor(rowFiles: readonly string[]) {
    this.#cursors = rowFiles.map((path) => new RowCursor(readRows(path)));
  }

  /**
   * What is known of `[offset, offset + length)`. Null: nothing that covers it exactly, so it must be compared.
   * A zero row answers for any range inside it.
   */
  async covering(offset: number, length: number): Promise<KnownContent> {
    for (const [layer, cursor] of this.#cursors.entries()) {
      const row = await cursor.at(offset);
      if (row === null || row.offset >= offset + length) continue;
      const isExact = row.offset === offset && row.size === length;
      const isInsideZero =
        row.zero === true && row.offset <= offset && row.offset + row.size >= offset + length;
      return isExact || isInsideZero ? { row, layer } : null;
    }
    return null;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const cursor of this.#cursors) await cursor.close();
  }
}
