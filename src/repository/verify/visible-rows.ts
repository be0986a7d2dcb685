import { RowCursor } from '../../nbd/mover/rows/parent-rows.ts';
import { type Row, readRows } from '../../nbd/mover/rows/rows.ts';

/** A range in which one row says what the guest sees, because no newer layer has a row there. */
export interface VisiblePart {
  readonly offset: number;
  readonly size: number;
  readonly row: Row;
  /** Whose row it is: 0 is the newest layer. */
  readonly layer: number;
  /** Nothing of the row is hidden by newer ones. */
  readonly isWhole: boolean;
}

/**
 * The rows of several layers seen as one, in order; where rows overlap, even partly, the newest layer's wins. It
 * streams, so the memory it takes does not depend on the disk's size.
 * @param rowFiles newest layer first
 * @throws FORMAT_INVALID, FORMAT_TOO_NEW
 */
export async function* visibleRows(rowFiles: readonly string[]): AsyncGenerator<VisiblePart> {
  yield* mergeRows(rowFiles.map((path) => readRows(path)));
}

/** The same over rows from anywhere. */
export async function* mergeRows(layers: readonly AsyncGenerator<Row>[]): AsyncGenerator<VisiblePart> {
  const cursors = layers.map((rows) => new RowCursor(rows));
  try {
    for (let position = 0; ; ) {
      const { part, next } = await partAt(cursors, position);
      if (part) yield part;
      else if (next === Number.POSITIVE_INFINITY) return;
      position = part ? part.offset + part.size : next;
    }
  } finally {
    for (const cursor of cursors) await cursor.close();
  }
}

async function partAt(
  cursors: readonly RowCursor[],
  position: number,
): Promise<{ part: VisiblePart | null; next: number }> {
  /** Where the nearest newer row begins. */
  let next = Number.POSITIVE_INFINITY;
  for (const [layer, cursor] of cursors.entries()) {
    const row = await cursor.at(position);
    if (row === null) continue;
    if (row.offset > position) {
      next = Math.min(next, row.offset);
      continue;
    }
    const end = row.offset + row.size;
    const size = Math.min(end, next) - position;
    const isWhole = position === row.offset && size === row.size;
    return { part: { offset: position, size, row, layer, isWhole }, next };
  }
  return { part: null, next };
}
