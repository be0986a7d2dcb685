import type { Row } from './rows.ts';

/** A row, or a range whose content is known to nobody: part of an older row whose rest was overwritten. */
export type MergedRow = Row | { readonly offset: number; readonly size: number; readonly unknown: true };

const endOf = (row: MergedRow) => row.offset + row.size;

/** The part of a row from `start` to `end`. Zeros stay zeros; a digest says nothing of a part. */
function part(row: MergedRow, start: number, end: number): MergedRow {
  if (start === row.offset && end === endOf(row)) return row;
  const place = { offset: start, size: end - start };
  return 'zero' in row && row.zero ? { ...place, zero: true } : { ...place, unknown: true };
}

/**
 * The rows of several layers seen as one, in order and without overlaps: at each place the newest layer's row wins.
 * Streams, so that the memory it takes does not depend on the size of the disk.
 * @param layers rows of each layer in ascending order, newest layer first
 */
export function mergeRows(layers: readonly AsyncIterable<MergedRow>[]): AsyncIterable<MergedRow> {
  const [newest, ...older] = layers;
  if (!newest) return none();
  return older.length === 0 ? newest : mergeTwo(newest, mergeRows(older));
}

async function* none(): AsyncGenerator<MergedRow> {
  // a chain without layers has no rows
}

async function* mergeTwo(
  newer: AsyncIterable<MergedRow>,
  older: AsyncIterable<MergedRow>,
): AsyncGenerator<MergedRow> {
  const above = newer[Symbol.asyncIterator]();
  const below = older[Symbol.asyncIterator]();
  const nextOf = async (rows: AsyncIterator<MergedRow>) => {
    const next = await rows.next();
    return next.done ? null : next.value;
  };
  try {
    let high = await nextOf(above);
    let low = await nextOf(below);
    while (high !== null || low !== null) {
      if (high === null || (low !== null && endOf(low) <= high.offset)) {
        if (low !== null) yield low;
        low = await nextOf(below);
      } else if (low === null || endOf(high) <= low.offset) {
        yield high;
        high = await nextOf(above);
      } else {
        if (low.offset < high.offset) yield part(low, low.offset, high.offset);
        // what of the older row lies behind the newer one is looked at again; what is under it is forgotten
        low = endOf(low) > endOf(high) ? part(low, endOf(high), endOf(low)) : await nextOf(below);
      }
    }
  } finally {
    await above.return?.();
    await below.return?.();
  }
}
