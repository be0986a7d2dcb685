import { parseDuration } from '../calendar/duration.ts';
import { instantBefore } from '../calendar/instant-before.ts';
import { openTimeZone } from '../calendar/time-zone.ts';
import { bucketRules } from './bucket-rules.ts';
import { judgeBuckets } from './judge-buckets.ts';
import { judgeLast } from './judge-last.ts';
import { judgeWithin } from './judge-within.ts';
import type { RetentionRules } from './retention-rules.ts';
import type { Judge } from './verdict.ts';

const keepEverything: Judge = () => ({
  keeps: true,
  by: { rule: 'no_rules' },
  because: 'there are no retention rules, so everything is kept',
});

/**
 * The rules of a set, ready for one pass over the points. Never empty: who wrote no rule did not ask for deletion.
 * @param nowMs durations end here, ms since the epoch
 */
export function judgesOf(rules: RetentionRules, nowMs: number): Judge[] {
  const zone = openTimeZone(rules.time_zone);
  const sinceMs = (within: string) => instantBefore(nowMs, parseDuration(within), zone);
  const judges: Judge[] = [];
  const last = rules.keep_last ?? rules.max_snapshots;
  if (last !== undefined) judges.push(judgeLast(last));
  if (rules.keep_within !== undefined) {
    judges.push(judgeWithin(rules.keep_within, sinceMs(rules.keep_within)));
  }
  for (const { rule, unit } of bucketRules) {
    const value = rules[rule];
    if (value === undefined) continue;
    const limit = typeof value === 'number' ? { count: value } : { within: value, sinceMs: sinceMs(value) };
    judges.push(judgeBuckets(rule, unit, limit, zone));
  }
  return judges.length > 0 ? judges : [keepEverything];
}
