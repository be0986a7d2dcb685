/** What is known of a disk before its next layer is made. All sizes in bytes, newest first. */
export interface LayerPrecedents {
  readonly type: 'full' | 'incremental' | 'differential';
  /** Lengths of earlier layers of this type. */
  readonly sameType: readonly number[];
  /** What the source takes up where it lies; null when nobody knows, as for a block device. */
  readonly allocatedBytes: number | null;
}

/** So many earlier layers are looked at: a month of days with its one busy night. */
const RECENT = 30;
/** Above the largest of them; changes are not the same each day. */
const MARGIN = 1.1;
/** A qcow2 file without data: header, tables. */
const EMPTY_LAYER_BYTES = 256 * 1024;

/**
 * How long the next layer of a disk will be, at most as far as one can tell. Pure.
 * @returns null when there is nothing to tell it from
 */
export function estimateLayer({ type, sameType, allocatedBytes }: LayerPrecedents): number | null {
  const recent = sameType.slice(0, RECENT);
  const known = recent.length === 0 ? null : Math.round(Math.max(...recent) * MARGIN);
  // a full holds what is there now; an image that is allocated beforehand has much less in it
  if (type !== 'full' || allocatedBytes === null) return known;
  return EMPTY_LAYER_BYTES + (known === null ? allocatedBytes : Math.min(known, allocatedBytes));
}
