import type { MirrorRecord } from '../../../catalog/mirrors/mirrors.ts';
import type { MirrorDeps } from '../mirror-deps.ts';
import { hasRules, mirrorRules } from '../mirror-rules.ts';
import { type MirrorPruneLine, planMirrorPrune } from '../plan-mirror-prune.ts';

const HOUR_MS = 3600 * 1000;
/** A mirror run that comes daily collects daily, also when it begins a little earlier than the day before. */
const COLLECT_EVERY_MS = 20 * HOUR_MS;

export interface UpkeepPlan {
  /** One for each restore point in the mirror. */
  readonly lines: readonly MirrorPruneLine[];
  /** Restore points that no rule keeps and no lock holds. */
  readonly doomed: readonly string[];
  /** Machines of which no good restore point would be left, so that none is deleted. */
  readonly lastOf: readonly string[];
  /** Restore points whose locks run out before half of their time is left; what they stand on goes with them. */
  readonly renewed: readonly string[];
  /** Until when those are locked from now on, UTC. */
  readonly lockUntil: string | null;
  readonly isCollectionDue: boolean;
}

/**
 * What a mirror needs today, as the catalogue knows it. A lock is renewed when half of it is over: a run that fails for
 * days is still in time. What the rules do not keep is not locked again: it goes when its lock has run out.
 * @throws MIRROR_INVALID
 */
export function planUpkeep(
  { catalog, clock }: Pick<MirrorDeps, 'catalog' | 'clock'>,
  record: MirrorRecord,
): UpkeepPlan {
  const nowMs = clock.now().getTime();
  const { lines, lastOf } = planMirrorPrune({ catalog, clock }, record.name, mirrorRules(record));
  const spared = new Set(lastOf);
  const doomed = lines
    .filter(({ action, backup }) => action === 'delete' && !spared.has(backup.vmName))
    .map(({ backup }) => backup.backupId);
  const lockMs = lockTimeMs(record);
  const damaged = new Set(catalog.mirrorHealth.damaged(record.name));
  const renewed = lines
    .filter(({ isWanted, backup: { lockedUntil, disks, vmName } }) => {
      const isDue = lockedUntil === null || Date.parse(lockedUntil) - nowMs < lockMs / 2;
      const isSound = !disks.some(({ name }) => damaged.has(name));
      return isDue && isSound && (isWanted || spared.has(vmName));
    })
    .map(({ backup }) => backup.backupId);
  const collectedAt = catalog.jobs.newestCollection(record.name);
  return {
    ...{ lines, doomed, lastOf },
    renewed: lockMs === 0 ? [] : renewed,
    lockUntil: lockMs === 0 ? null : new Date(nowMs + lockMs).toISOString(),
    isCollectionDue:
      doomed.length > 0 || collectedAt === null || nowMs - Date.parse(collectedAt) >= COLLECT_EVERY_MS,
  };
}

/**
 * For how long locks are renewed; 0: they are not. Nobody can take a compliance lock back: without rules that let restore
 * points go, it would be renewed for ever on everything that was ever uploaded.
 */
function lockTimeMs({ settings, capabilities }: MirrorRecord): number {
  const { lock } = settings;
  if (lock === null || capabilities?.['object_lock'] !== true) return 0;
  return lock.mode === 'compliance' && !hasRules(settings) ? 0 : lock.days * 24 * HOUR_MS;
}
