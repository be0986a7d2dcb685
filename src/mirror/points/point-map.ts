import type { BlockRow } from './block-rows.ts';
import type { BlockTable } from './block-table.ts';

/** A range that one row says the content of. */
export interface SeenPart {
  readonly offset: number;
  readonly size: number;
  /** Null: no row of any point is there, the guest reads zeros. */
  readonly row: BlockRow | null;
  /** Whose row: 0 is the point itself, then what it stands on, nearest first. */
  readonly depth: number;
  /** Where in the row this part begins. */
  readonly skip: number;
}

/**
 * What a guest sees in a range: at each byte the newest row that is there.
 * @param tables of the point and of all it stands on, newest first
 */
export function* seenParts(tables: readonly BlockTable[], from: number, to: number): Generator<SeenPart> {
  for (let position = from; position < to; ) {
    const part = partAt(tables, position, to);
    yield part;
    position += part.size;
  }
}

function partAt(tables: readonly BlockTable[], position: number, to: number): SeenPart {
  let end = to;
  for (const [depth, table] of tables.entries()) {
    const index = table.firstBehind(position);
    if (index >= table.count) continue;
    const row = table.at(index);
    if (row.offset > position) {
      // up to there older points may be seen
      end = Math.min(end, row.offset);
      continue;
    }
    const size = Math.min(end, row.offset + row.size) - position;
    return { offset: position, size, row, depth, skip: position - row.offset };
  }
  return { offset: position, size: end - position, row: null, depth: tables.length, skip: 0 };
}
