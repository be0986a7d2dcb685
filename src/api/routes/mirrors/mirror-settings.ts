import { z } from 'zod';
import type { MirrorSettings } from '../../../catalog/mirrors/mirrors.ts';
import { retentionRules } from '../../../policy/retention/retention-rules.ts';
import { vmName } from '../../schemas.ts';

const clockMinute = z.number().int().min(0).max(1439);
/** How a mirror is used. */
export const settings = {
  zstd_level: z.number().int().min(0).max(19).optional().meta({ description: '0: nothing is compressed' }),
  automatic: z.boolean().optional().meta({ description: 'Each new backup is uploaded by itself' }),
  vms: z.array(vmName).max(10_000).optional().meta({ description: 'Only these machines; empty: all' }),
  mib_per_s: z.number().min(0).max(100_000).nullish(),
  rate_windows: z
    .array(
      z.strictObject({
        from_minute: clockMinute,
        to_minute: clockMinute,
        mib_per_s: z.number().min(0).max(100_000),
      }),
    )
    .max(20)
    .optional()
    .meta({ description: 'Times of day with another speed; 0: nothing is sent' }),
  lock: z
    .strictObject({ mode: z.enum(['governance', 'compliance']), days: z.number().int().min(1).max(36_500) })
    .nullish(),
  retention: retentionRules.optional().meta({ description: 'What stays in the mirror; {}: everything' }),
  upkeep: z.boolean().optional().meta({
    description: 'Mirror runs of policies renew locks, delete by the retention, and collect garbage',
  }),
  grace_hours: z
    .number()
    .min(0)
    .max(8760)
    .optional()
    .meta({ description: 'Hours between condemning and deleting; 24 unless told' }),
};

export type SettingsBody = z.infer<z.ZodObject<typeof settings>>;

/** Only what was named. */
export const changeOf = (body: SettingsBody): Partial<MirrorSettings> => ({
  ...(body.zstd_level === undefined ? {} : { level: body.zstd_level }),
  ...(body.automatic === undefined ? {} : { isAutomatic: body.automatic }),
  ...(body.vms === undefined ? {} : { vms: body.vms }),
  ...(body.mib_per_s === undefined ? {} : { mibPerSecond: body.mib_per_s }),
  ...(body.rate_windows === undefined
    ? {}
    : {
        rateWindows: body.rate_windows.map((window) => ({
          fromMinute: window.from_minute,
          toMinute: window.to_minute,
          mibPerSecond: window.mib_per_s,
        })),
      }),
  ...(body.lock === undefined ? {} : { lock: body.lock }),
  ...(body.retention === undefined ? {} : { retention: body.retention }),
  ...(body.upkeep === undefined ? {} : { hasUpkeep: body.upkeep }),
  ...(body.grace_hours === undefined ? {} : { graceHours: body.grace_hours }),
});
