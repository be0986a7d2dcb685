import type { Job } from '../../../catalog/jobs.ts';
import type { MirrorRecord } from '../../../catalog/mirrors/mirrors.ts';
import type { CollectReport } from '../../../mirror/program/mirror-task.ts';
import { runTask } from '../../../mirror/program/run-task.ts';
import type { JobContext } from '../../job-work.ts';
import { accessOf, findRecord, indexFileOf, type MirrorDeps, refreshPoints } from '../mirror-deps.ts';
import { pointsOf } from '../mirror-points.ts';
import { submitMirrorWork } from '../start-mirror-work.ts';
import { planUpkeep } from './plan-upkeep.ts';

const HOUR_MS = 3600 * 1000;

/**
 * Does with a mirror what else an operator would do by hand: locks that run out are renewed, what no rule keeps is
 * deleted, what nothing needs is collected. In this order: a lock that cannot be renewed ends the job before anything goes.
 * @returns null when nothing is due, or the mirror is only read or kept by hand
 * @throws MIRROR_UNKNOWN, MIRROR_INVALID
 */
export function startUpkeep(deps: MirrorDeps, name: string): Job | null {
  const record = findRecord(deps, name);
  if (!record.settings.hasUpkeep || record.epoch === null) return null;
  const { renewed, isCollectionDue } = planUpkeep(deps, record);
  if (renewed.length === 0 && !isCollectionDue) return null;
  return submitMirrorWork(deps, name, {
    kind: 'mirror-upkeep',
    event: 'mirror.upkeep',
    what: 'Upkeep',
    request: {},
    run: (current, context) => keepUp(deps, current, context),
  });
}

async function keepUp(
  deps: MirrorDeps,
  record: MirrorRecord,
  { signal, setPhase, setResult, warn }: JobContext,
): Promise<void> {
  const { name, settings } = record;
  // locks may have been extended and points deleted behind our back
  setPhase('looking');
  await refreshPoints(deps, record);
  const plan = planUpkeep(deps, record);
  const run = { mirrorFile: deps.mirrorFile, signal };
  const access = await accessOf(deps, record);
  const indexFile = indexFileOf(deps, name);
  const disksOf = (ids: readonly string[]) =>
    ids.flatMap((id) => pointsOf(deps, record, id).map((point) => point.name));
  for (const vm of plan.lastOf)
    warn(
      `Nothing of "${vm}" was deleted: no good restore point of it would be left. Do it with: sendense-ctl mirror prune ${name}, --apply and --force`,
    );
  const result: Record<string, number> = { renewed: plan.renewed.length, restore_points: plan.doomed.length };
  if (plan.renewed.length > 0 && plan.lockUntil !== null) {
    setPhase('locking');
    const retention = { mode: settings.lock?.mode ?? 'governance', until: plan.lockUntil };
    const points = disksOf(plan.renewed);
    const order = { task: 'lock', access, indexFile, points, retention, legalHold: null } as const;
    result['extended'] = (await runTask({ ...run, task: order })).extended;
  }
  if (plan.doomed.length > 0) {
    setPhase('deleting');
    await runTask({ ...run, task: { task: 'delete', access, indexFile, points: disksOf(plan.doomed) } });
    deps.catalog.mirrors.addPruned(name, plan.doomed);
  }
  if (plan.isCollectionDue) {
    setPhase('collecting');
    const graceMs = settings.graceHours * HOUR_MS;
    const report: CollectReport = await runTask({
      ...run,
      task: { task: 'collect', access, indexFile, graceMs },
    });
    if (report.waiting !== null) warn(`Nothing was collected: ${report.waiting}.`);
    const { condemned, deleted, freedBytes } = report;
    Object.assign(result, { condemned, deleted, freed_bytes: freedBytes });
  }
  await refreshPoints(deps, record);
  setResult(result);
}
