import type { BucketUnit } from '../calendar/bucket.ts';
import { describeDuration, parseDuration } from '../calendar/duration.ts';
import { bucketRules } from './bucket-rules.ts';
import type { RetentionRules } from './retention-rules.ts';

/** `keeps the last 3 points, one per day for 7 days with a point, one per month of the last 2 years (Europe/Berlin)`. */
export function describeRules(rules: RetentionRules): string {
  const parts: string[] = [];
  const last = rules.keep_last ?? rules.max_snapshots;
  if (last !== undefined) parts.push(last === 1 ? 'the last point' : `the last ${last} points`);
  if (rules.keep_within !== undefined) parts.push(`every point of ${lastTime(rules.keep_within)}`);
  for (const { rule, unit } of bucketRules) {
    const value = rules[rule];
    if (value !== undefined) parts.push(describeBuckets(unit, value));
  }
  if (parts.length === 0) return 'keeps everything: there are no retention rules';
  return `keeps ${parts.join(', ')} (${rules.time_zone})`;
}

function describeBuckets(unit: BucketUnit, limit: number | string): string {
  const each = `one per ${unit}`;
  if (typeof limit === 'string') return `${each} of ${lastTime(limit)}`;
  return `${each} for ${limit === 1 ? `one ${unit}` : `${limit} ${unit}s`} with a point`;
}

const lastTime = (duration: string) =>
  `the last ${describeDuration(parseDuration(duration)).replace(/^1 /, '')}`;
