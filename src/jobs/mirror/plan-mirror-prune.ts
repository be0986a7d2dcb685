import { createHash } from 'node:crypto';
import { SendenseError } from '../../base/sendense-error.ts';
import type { Job } from '../../catalog/jobs.ts';
import { planRetention } from '../../policy/retention/plan-retention.ts';
import type { RetentionRules } from '../../policy/retention/retention-rules.ts';
import { findRecord, type MirrorDeps } from './mirror-deps.ts';
import { type MirroredBackup, mirroredBackups } from './mirror-points.ts';
import { startMirrorPrune } from './start-mirror-work.ts';

export interface MirrorPruneLine {
  readonly backup: MirroredBackup;
  readonly action: 'keep' | 'delete';
  readonly reason: string;
  /** The rules keep it; else only its lock does. */
  readonly isWanted: boolean;
}

export interface MirrorPrunePlan {
  /** Of all that was decided; another one means another world. */
  readonly plan: string;
  readonly lines: readonly MirrorPruneLine[];
  /** Machines of which no good point would be left. */
  readonly lastOf: readonly string[];
}

type PlanDeps = Pick<MirrorDeps, 'catalog' | 'clock'>;

/**
 * Decides for every restore point in a mirror, by the rules alone or those of the mirror. What is pinned here stays there
 * too; what is damaged counts as no restore point. Changes nothing.
 */
export function planMirrorPrune(deps: PlanDeps, name: string, rules: RetentionRules): MirrorPrunePlan {
  const record = findRecord(deps, name);
  const now = deps.clock.now();
  const byVm = Map.groupBy(mirroredBackups(deps.catalog.mirrors.points(record.name)), ({ vmName }) => vmName);
  const damaged = new Set(deps.catalog.mirrorHealth.damaged(name));
  const lines: MirrorPruneLine[] = [];
  const lastOf: string[] = [];
  for (const [vmName, backups] of byVm) {
    const points = backups.map((backup) => ({
      id: backup.backupId,
      completedAtMs: Date.parse(backup.completedAt),
      isGood: backup.isWhole && !backup.disks.some((disk) => damaged.has(disk.name)),
      pins: deps.catalog.pins.ofBackup(backup.backupId).map(({ reason, until }) => ({
        reason,
        untilMs: until === null ? null : Date.parse(until),
      })),
    }));
    const plan = planRetention(points, rules, now.getTime());
    if (plan.deletesLastGood) lastOf.push(vmName);
    for (const { id, action, reason } of plan.decisions) {
      const backup = backups.find(({ backupId }) => backupId === id);
      if (!backup) continue;
      const until = backup.lockedUntil;
      const isLocked = until !== null && Date.parse(until) > now.getTime();
      if (action === 'delete' && isLocked)
        lines.push({ backup, action: 'keep', reason: `locked until ${until}`, isWanted: false });
      else lines.push({ backup, action, reason, isWanted: action === 'keep' });
    }
  }
  const decided = lines.map(({ backup, action }) => [backup.backupId, action]);
  const plan = createHash('sha256')
    .update(JSON.stringify([name, decided]))
    .digest('hex')
    .slice(0, 12);
  return { plan, lines, lastOf };
}

/**
 * Carries out exactly the plan that was shown.
 * @throws PLAN_STALE, MIRROR_LAST_POINT
 */
export function applyMirrorPrune(
  deps: MirrorDeps,
  name: string,
  rules: RetentionRules,
  wanted: { readonly plan: string; readonly isForced: boolean; readonly graceHours: number },
): Job {
  const { plan, lines, lastOf } = planMirrorPrune(deps, name, rules);
  if (plan !== wanted.plan)
    throw new SendenseError('PLAN_STALE', { plan: wanted.plan, detail: `now it would be ${plan}` });
  if (lastOf.length > 0 && !wanted.isForced) throw new SendenseError('MIRROR_LAST_POINT', { vms: lastOf });
  const doomed = lines.filter(({ action }) => action === 'delete').map(({ backup }) => backup.backupId);
  return startMirrorPrune(deps, name, doomed, wanted.graceHours);
}
