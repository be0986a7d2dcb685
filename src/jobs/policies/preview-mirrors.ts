import type { Policy } from '../../policy/definition/policy.ts';
import { describeRules } from '../../policy/retention/describe-rules.ts';
import { mirrorRules } from '../mirror/mirror-rules.ts';
import type { MirrorPruneLine } from '../mirror/plan-mirror-prune.ts';
import { planUpkeep } from '../mirror/upkeep/plan-upkeep.ts';
import type { RunnerDeps } from './run/runner-deps.ts';

/** What a mirror run of a policy would do with one of its mirrors today, besides uploading. */
export interface MirrorPreview {
  readonly mirror: string;
  readonly rules: string;
  /** False: it is kept by hand, or only read. */
  readonly upkeep: boolean;
  /** When; null: in no run of this policy. */
  readonly schedule: string | null;
  /** Of the machines of the policy; the rules hold for all that are in the mirror. */
  readonly points: readonly MirrorPruneLine[];
  /** Restore points of other machines there. */
  readonly otherPoints: number;
  /** Machines of which nothing is deleted, since no good restore point would be left. */
  readonly lastOf: readonly string[];
  /** Restore points whose locks would be renewed. */
  readonly renewed: number;
}

/** Changes nothing and asks no server: it is computed from what the catalogue knows. @param machines that are shown */
export function previewMirrors(
  deps: Pick<RunnerDeps, 'catalog' | 'clock'>,
  policy: Policy,
  machines: readonly string[],
): MirrorPreview[] {
  const isMeant = new Set(machines);
  return policy.mirrors.flatMap((name): MirrorPreview[] => {
    const record = deps.catalog.mirrors.byName(name);
    if (record === null) return [];
    const plan = planUpkeep(deps, record);
    const points = plan.lines.filter(({ backup }) => isMeant.has(backup.vmName));
    return [
      {
        ...{ mirror: name, points, rules: describeRules(mirrorRules(record)) },
        upkeep: record.settings.hasUpkeep && record.epoch !== null,
        schedule: policy.runner === 'none' ? null : (policy.mirror?.schedule ?? null),
        otherPoints: plan.lines.length - points.length,
        lastOf: plan.lastOf.filter((vm) => isMeant.has(vm)),
        renewed: plan.renewed.length,
      },
    ];
  });
}
