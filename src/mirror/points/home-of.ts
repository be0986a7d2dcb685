import type { BlockRow } from './block-rows.ts';
import type { OpenPoint } from './read-point.ts';

/** The point whose folder holds the object of a row; null when it lies in a pack or is zeros. */
export function homeOf(point: OpenPoint | undefined, row: BlockRow): string | null {
  if (!point || ('zero' in row && row.zero)) return null;
  if ('pack' in row && row.pack !== undefined) return null;
  const from = 'from' in row ? row.from : undefined;
  return from === undefined ? point.manifest.name : (point.chain.borrowed[from] ?? null);
}
