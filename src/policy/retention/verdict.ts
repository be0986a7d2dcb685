import type { BucketRule } from './bucket-rules.ts';
import type { RetentionPoint } from './point.ts';

/** Why a point stays, for programs. Durations are as they stand in the rules. */
export type KeptBy =
  | { readonly rule: 'no_rules' }
  | { readonly rule: 'future' }
  | { readonly rule: 'pin'; readonly reason: string; readonly untilMs: number | null }
  | { readonly rule: 'keep_last'; readonly rank: number; readonly of: number }
  | { readonly rule: 'keep_within'; readonly within: string }
  | { readonly rule: BucketRule; readonly bucket: string; readonly rank: number; readonly of: number }
  | { readonly rule: BucketRule; readonly bucket: string; readonly within: string };

/** What one rule says of one point; `because` is a part of a sentence. */
export type Verdict =
  | { readonly keeps: true; readonly by: KeptBy; readonly because: string }
  | { readonly keeps: false; readonly because: string };

/**
 * One rule at work. It is shown every point that is not in the future, newest first, and counts only the good ones:
 * of a damaged one it says what would hold were that one good.
 */
export type Judge = (point: RetentionPoint) => Verdict;
