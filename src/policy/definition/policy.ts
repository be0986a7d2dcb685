import { z } from 'zod';
import { labelKeyPattern, labelValuePattern } from '../../base/label-patterns.ts';
import { isTimeZone } from '../calendar/time-zone.ts';
import { type RetentionRules, retentionRules } from '../retention/retention-rules.ts';
import { weekdayNames } from '../schedules/cron-fields.ts';
import { parseSchedule } from '../schedules/schedule.ts';
import { clockTimePattern } from '../schedules/window.ts';

/** What a policy can have done. */
export const policyKinds = ['backup', 'prune', 'verify', 'mirror', 'boot-test'] as const;
export type PolicyKind = (typeof policyKinds)[number];

const name = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, 'at most 64 letters, digits, ".", "_" and "-"');
const pattern = z
  .string()
  .regex(/^[A-Za-z0-9._*?-]{1,64}$/, 'a name of machines in which * and ? stand for others, as in web*');
export const labelKey = z
  .string()
  .regex(labelKeyPattern, 'at most 63 small letters, digits, ".", "_", "/" and "-"');
export const labelValue = z.string().regex(labelValuePattern, 'at most 63 plain characters');
const command = z.string().min(1).max(4096);

const schedule = z
  .string()
  .max(200)
  .superRefine((text, context) => {
    try {
      parseSchedule(text);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      context.addIssue({ code: 'custom', message: error.message });
    }
  })
  .meta({ description: '`every 4h`, `daily at 22:00`, `weekly on sunday at 03:00` or five fields of cron' });

const clockTime = z.string().regex(clockTimePattern, 'a time of day as in 22:00');

/** A policy as an operator writes it and as it is stored: plain JSON, with every default filled in. */
export const policyDocument = z.strictObject({
  name,
  description: z.string().max(500).default(''),
  machines: z
    .strictObject({
      names: z.array(name).max(10_000).default([]),
      patterns: z.array(pattern).max(100).default([]),
      labels: z.record(labelKey, labelValue).default({}),
      except: z.array(pattern).max(1000).default([]),
    })
    .refine(
      ({ names, patterns, labels }) => names.length + patterns.length + Object.keys(labels).length > 0,
      'names, patterns and labels are all empty, so no machine is meant; all of them are patterns: ["*"]',
    ),
  runner: z
    .enum(['daemon', 'systemd', 'none'])
    .default('daemon')
    .meta({ description: 'Who starts what is due; `systemd`: timers of `schedule export`; `none`: nobody' }),
  time_zone: z
    .string()
    .refine(isTimeZone, 'not a time zone of the IANA database; write for instance Europe/Berlin')
    .default('UTC'),
  schedule: schedule.nullable().default(null).meta({ description: 'Of backups; null: none by themselves' }),
  full: z
    .enum(['never', 'daily', 'weekly', 'monthly'])
    .default('never')
    .meta({ description: 'How often a run makes a full; `never`: incremental for ever' }),
  full_on: z
    .enum(weekdayNames)
    .default('mon')
    .meta({ description: 'The day on which weeks of `full` begin' }),
  repository: name.default('local'),
  mirrors: z.array(name).max(32).default([]),
  retention: z
    .strictObject({
      ...retentionRules.shape,
      time_zone: z.string().refine(isTimeZone, 'not a time zone of the IANA database').optional(),
    })
    .refine(
      (rules) => rules.keep_last === undefined || rules.max_snapshots === undefined,
      'keep_last and max_snapshots are the same rule; write one of them',
    )
    .nullable()
    .default(null)
    .meta({ description: 'Rules of `prune`; null: nothing is deleted' }),
  prune: z
    .strictObject({ schedule })
    .nullable()
    .default(null)
    .meta({ description: 'Null: after each run of backups, when there is retention' }),
  verify: z
    .strictObject({ schedule, percent: z.number().min(0.1).max(100).default(10) })
    .nullable()
    .default(null)
    .meta({ description: 'So many percent of the stored bytes each time, the longest unverified first' }),
  mirror: z.strictObject({ schedule }).nullable().default(null).meta({
    description: 'Uploads what is missing, and looks after the mirrors: locks, retention, garbage',
  }),
  boot_test: z
    .strictObject({
      schedule,
      memory_mib: z.number().int().min(64).max(1_048_576).default(1024),
      cpus: z.number().int().min(1).max(64).default(1),
      timeout_s: z.number().int().min(1).max(86_400).default(600),
      firmware: z.enum(['bios', 'uefi']).default('bios'),
      disk_bus: z.enum(['virtio', 'sata', 'ide']).default('virtio'),
      expect_serial: z.string().min(1).max(1000).nullable().default(null),
      expect_agent: z.boolean().default(false),
      expect_screen_stable_s: z.number().int().min(1).max(3600).nullable().default(null),
    })
    .nullable()
    .default(null),
  hooks: z
    .strictObject({ before: command.nullable().default(null), after: command.nullable().default(null) })
    .default({ before: null, after: null })
    .meta({ description: 'Commands around a run of backups; the machines have their own' }),
  priority: z.number().int().min(0).max(100).default(50).meta({ description: 'The greater goes first' }),
  window: z
    .strictObject({ from: clockTime, to: clockTime })
    .refine(({ from, to }) => from !== to, 'from and to are the same; leave the window out instead')
    .nullable()
    .default(null)
    .meta({ description: 'Hours in which jobs may begin, in the time zone of the policy' }),
  jitter_s: z.number().int().min(0).max(86_400).default(0),
  mib_per_second: z
    .number()
    .min(1)
    .max(65_536)
    .nullable()
    .default(null)
    .meta({ description: 'Limit of each backup of a machine of this host; agents have limits of their own' }),
  grace_s: z
    .number()
    .int()
    .min(60)
    .max(7 * 86_400)
    .default(3600)
    .meta({ description: 'A machine is overdue when it has no restore point so long after it was due' }),
});

export type Policy = z.infer<typeof policyDocument>;

/** The schedule of one kind of work; null: it does not come by itself. */
export function scheduleOf(policy: Policy, kind: PolicyKind): string | null {
  switch (kind) {
    case 'backup':
      return policy.schedule;
    case 'boot-test':
      return policy.boot_test?.schedule ?? null;
    default:
      return policy[kind]?.schedule ?? null;
  }
}

/** The rules of the policy; days and weeks are counted where the policy is at home unless the rules say otherwise. */
export function rulesOf(policy: Policy): RetentionRules | null {
  if (policy.retention === null) return null;
  return { ...policy.retention, time_zone: policy.retention.time_zone ?? policy.time_zone };
}
