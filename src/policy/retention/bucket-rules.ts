import type { BucketUnit } from '../calendar/bucket.ts';

export type BucketRule = 'hourly' | 'daily' | 'weekly' | 'monthly' | 'yearly';

/** Grandfather, father, son: each rule with the calendar unit of which it keeps one point. */
export const bucketRules: readonly { readonly rule: BucketRule; readonly unit: BucketUnit }[] = [
  { rule: 'hourly', unit: 'hour' },
  { rule: 'daily', unit: 'day' },
  { rule: 'weekly', unit: 'week' },
  { rule: 'monthly', unit: 'month' },
  { rule: 'yearly', unit: 'year' },
];
