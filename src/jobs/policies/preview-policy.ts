import type { Clock } from '../../base/clock.ts';
import { openTimeZone } from '../../policy/calendar/time-zone.ts';
import { type AbsentName, absentNames } from '../../policy/definition/absent-names.ts';
import {
  type Policy,
  type PolicyKind,
  policyKinds,
  rulesOf,
  scheduleOf,
} from '../../policy/definition/policy.ts';
import { describeRules } from '../../policy/retention/describe-rules.ts';
import { startOf } from '../../policy/schedules/plan-due.ts';
import { type MachinePlan, planPrune } from '../prune/plan-prune.ts';
import { knownNames } from './known-names.ts';
import { type MirrorPreview, previewMirrors } from './preview-mirrors.ts';
import { machinesOf } from './run/plan-tasks.ts';
import type { RunnerDeps } from './run/runner-deps.ts';
import { timingOf } from './timing-of.ts';

export interface NextRun {
  readonly policy: string;
  readonly kind: PolicyKind;
  readonly schedule: string;
  readonly runner: Policy['runner'];
  readonly dueAt: string;
  /** With its jitter and its allowed hours. */
  readonly startsAt: string;
  /** As a clock on the wall of the policy shows it. */
  readonly local: string;
}

export interface PolicyPreview {
  readonly next: readonly NextRun[];
  readonly machines: readonly string[];
  /** What it names and nobody has. */
  readonly absent: readonly AbsentName[];
  readonly rules: string;
  /** What retention would do with the points that are there now. */
  readonly retention: readonly MachinePlan[];
  /** What would be done with each mirror. */
  readonly mirrors: readonly MirrorPreview[];
  /** Machines whose points were not looked at because there are so many. */
  readonly notShown: number;
}

/** Planning reads every point; nobody reads more in one answer. */
const MOST_PLANNED = 50;

/** The next due instants of a policy, soonest first. @param count of each kind */
export function nextRuns({ clock }: { readonly clock: Clock }, policy: Policy, count: number): NextRun[] {
  const nowMs = clock.now().getTime();
  const found = policyKinds.flatMap((kind): NextRun[] => {
    const timing = timingOf(policy, kind);
    const schedule = scheduleOf(policy, kind);
    if (timing === null || schedule === null) return [];
    const runs: NextRun[] = [];
    let dueMs = timing.occurrences.next(nowMs);
    while (dueMs !== null && runs.length < count) {
      const startMs = policy.runner === 'daemon' ? startOf(timing, dueMs) : dueMs;
      runs.push({
        ...{ policy: policy.name, kind, schedule, runner: policy.runner },
        dueAt: new Date(dueMs).toISOString(),
        startsAt: new Date(startMs).toISOString(),
        local: localText(startMs, policy.time_zone),
      });
      dueMs = timing.occurrences.next(dueMs);
    }
    return runs;
  });
  return found.toSorted((a, b) => (a.startsAt < b.startsAt ? -1 : 1));
}

/** `2026-03-29 03:00 +02:00`: the offset tells the two halves of a repeated hour apart. */
function localText(instantMs: number, timeZone: string): string {
  const offsetMinutes = openTimeZone(timeZone).offsetMsAt(instantMs) / 60_000;
  const two = (value: number) => String(value).padStart(2, '0');
  const size = Math.abs(offsetMinutes);
  const offset = `${offsetMinutes < 0 ? '-' : '+'}${two(Math.floor(size / 60))}:${two(size % 60)}`;
  const local = new Date(instantMs + offsetMinutes * 60_000).toISOString();
  return `${local.slice(0, 16).replace('T', ' ')} ${offset}`;
}

/** What a policy means today: whom, when, and which points it would keep and why. Changes nothing. @throws REPOSITORY_UNKNOWN */
export function previewPolicy(deps: RunnerDeps, policy: Policy, count: number): PolicyPreview {
  const machines = machinesOf(deps, policy);
  const rules = rulesOf(policy);
  const shown = machines.slice(0, MOST_PLANNED);
  return {
    next: nextRuns(deps, policy, count),
    machines: machines.map(({ name }) => name),
    absent: absentNames(policy, knownNames(deps.catalog)),
    rules: rules === null ? 'keeps everything: there are no retention rules' : describeRules(rules),
    retention: shown.flatMap(({ name: vmName }) =>
      rules === null
        ? []
        : planPrune(deps, { vmName, repository: policy.repository, rules }, deps.clock.now()).machines,
    ),
    mirrors: previewMirrors(
      deps,
      policy,
      shown.map(({ name }) => name),
    ),
    notShown: machines.length - shown.length,
  };
}
