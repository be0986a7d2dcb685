import { type BucketUnit, bucketKeyOf, bucketLabel } from '../calendar/bucket.ts';
import type { TimeZone } from '../calendar/time-zone.ts';
import type { BucketRule } from './bucket-rules.ts';
import { ordinal } from './ordinal.ts';
import type { Judge, Verdict } from './verdict.ts';

/** How far back buckets count: so many that have a good point, or those whose newest lies within some time. */
export type BucketLimit = { readonly count: number } | { readonly within: string; readonly sinceMs: number };

/** Keeps the newest point of each hour, day, week, month or year. */
export function judgeBuckets(rule: BucketRule, unit: BucketUnit, limit: BucketLimit, zone: TimeZone): Judge {
  /** What is said of every older point, for each bucket that has a good one. */
  const taken = new Map<number, Verdict>();
  return (point) => {
    // a set of buckets and not only the last one: clocks put back over midnight return to a day that had ended
    const key = bucketKeyOf(unit, point.completedAtMs, zone);
    const earlier = taken.get(key);
    if (earlier !== undefined) return earlier;
    const bucket = bucketLabel(unit, key);
    const place: Place = { rule, name: `${unit} ${bucket}`, bucket, rank: taken.size + 1 };
    const verdict =
      'count' in limit
        ? judgeByCount(place, limit.count)
        : judgeByTime(place, limit.within, point.completedAtMs >= limit.sinceMs);
    if (point.isGood) {
      const because = verdict.keeps ? `a newer point stands for ${place.name}` : verdict.because;
      taken.set(key, { keeps: false, because });
    }
    return verdict;
  };
}

/** The bucket of a point that no newer good point has taken. */
interface Place {
  readonly rule: BucketRule;
  /** `day 2026-11-03` */
  readonly name: string;
  readonly bucket: string;
  /** 1 for the newest bucket that has a good point. */
  readonly rank: number;
}

function judgeByCount({ rule, name, bucket, rank }: Place, of: number): Verdict {
  if (rank > of) {
    return { keeps: false, because: `${name} is the ${ordinal(rank)} with a point (${rule} keeps ${of})` };
  }
  const because = `newest of ${name} (${rule} ${rank} of ${of})`;
  return { keeps: true, by: { rule, bucket, rank, of }, because };
}

function judgeByTime({ rule, name, bucket }: Place, within: string, isWithin: boolean): Verdict {
  if (!isWithin) return { keeps: false, because: `${name} has no point within ${within} (${rule})` };
  const because = `newest of ${name} (${rule} within ${within})`;
  return { keeps: true, by: { rule, bucket, within }, because };
}
