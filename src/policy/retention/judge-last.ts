import { ordinal } from './ordinal.ts';
import type { Judge } from './verdict.ts';

/** Keeps the newest points, so many of them. */
export function judgeLast(count: number): Judge {
  let counted = 0;
  return (point) => {
    const rank = counted + 1;
    if (point.isGood) counted = rank;
    const place = rank === 1 ? 'newest' : `${ordinal(rank)} newest`;
    if (rank > count) return { keeps: false, because: place };
    return {
      keeps: true,
      by: { rule: 'keep_last', rank, of: count },
      because: `${place} (keep_last ${rank} of ${count})`,
    };
  };
}
