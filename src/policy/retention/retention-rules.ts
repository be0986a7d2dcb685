import { z } from 'zod';
import { parseDuration } from '../calendar/duration.ts';
import { isTimeZone } from '../calendar/time-zone.ts';

/** More than the hours of a year; whoever wants more wants a duration or no rule. */
const MOST_POINTS = 10_000;

const count = z.number().int().min(1).max(MOST_POINTS);
const duration = z.string().superRefine((text, context) => {
  try {
    parseDuration(text);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    context.addIssue({ code: 'custom', message: error.message });
  }
});
const countOrDuration = z.union([count, duration], {
  error: 'write a whole count such as 7 or a duration such as "14d"',
});

/**
 * Which restore points of a machine stay. A point stays when any rule keeps it; no rule at all keeps everything.
 * Stays plain JSON: what was written is what is stored and shown again.
 */
export const retentionRules = z
  .strictObject({
    keep_last: count.optional().meta({ description: 'Keep this many of the newest points' }),
    max_snapshots: count.optional().meta({ description: 'Another name of `keep_last`' }),
    keep_within: duration
      .optional()
      .meta({ description: 'Keep every point of this time: 90m, 36h, 14d, 8w, 6mo, 2y' }),
    hourly: countOrDuration.optional().meta({
      description:
        'Keep the newest point of each of so many hours that have one, or of each hour within a time',
    }),
    daily: countOrDuration.optional().meta({ description: 'As `hourly`, for days' }),
    weekly: countOrDuration
      .optional()
      .meta({ description: 'As `hourly`, for ISO weeks, which begin on Monday' }),
    monthly: countOrDuration.optional().meta({ description: 'As `hourly`, for months' }),
    yearly: countOrDuration.optional().meta({ description: 'As `hourly`, for years' }),
    time_zone: z
      .string()
      .refine(isTimeZone, 'not a time zone of the IANA database; write for instance Europe/Berlin')
      .default('UTC')
      .meta({ description: 'IANA zone in which hours, days, weeks, months and years are counted' }),
  })
  .refine(
    (rules) => rules.keep_last === undefined || rules.max_snapshots === undefined,
    'keep_last and max_snapshots are the same rule; write one of them',
  );

export type RetentionRules = z.infer<typeof retentionRules>;
