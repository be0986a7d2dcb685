import { type Policy, type PolicyKind, scheduleOf } from '../../policy/definition/policy.ts';
import { occurrencesOf } from '../../policy/schedules/occurrences.ts';
import type { Timing } from '../../policy/schedules/plan-due.ts';
import { parseSchedule } from '../../policy/schedules/schedule.ts';

/** When a kind of work of a policy is due; null: it has no schedule. */
export function timingOf(policy: Policy, kind: PolicyKind): Timing | null {
  const text = scheduleOf(policy, kind);
  if (text === null) return null;
  return {
    occurrences: occurrencesOf(parseSchedule(text), policy.time_zone),
    jitterMs: policy.jitter_s * 1000,
    seed: `${policy.name} ${kind}`,
    window: policy.window,
    timeZone: policy.time_zone,
  };
}
