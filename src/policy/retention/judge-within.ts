import type { Judge } from './verdict.ts';

/**
 * Keeps every point of some time.
 * @param within as it stands in the rules
 * @param sinceMs where that time begins, ms since the epoch; a point of that very instant is kept
 */
export function judgeWithin(within: string, sinceMs: number): Judge {
  return (point) =>
    point.completedAtMs >= sinceMs
      ? { keeps: true, by: { rule: 'keep_within', within }, because: `within ${within} (keep_within)` }
      : { keeps: false, because: `older than ${within}` };
}
