import { SendenseError } from '../../base/sendense-error.ts';
import type { Job } from '../../catalog/jobs.ts';
import type { MirrorRecord } from '../../catalog/mirrors/mirrors.ts';
import type { CollectReport } from '../../mirror/program/mirror-task.ts';
import { runTask } from '../../mirror/program/run-task.ts';
import { endOf } from '../end-of-job.ts';
import type { JobContext } from '../job-work.ts';
import {
  accessOf,
  findRecord,
  indexFileOf,
  type MirrorDeps,
  refreshPoints,
  refuseReader,
} from './mirror-deps.ts';
import { pointsOf } from './mirror-points.ts';

const HOUR_MS = 3600 * 1000;

interface Work {
  readonly kind: 'mirror-verify' | 'mirror-prune' | 'mirror-lock' | 'mirror-upkeep';
  readonly event: string;
  readonly what: string;
  readonly request: Readonly<Record<string, unknown>>;
  readonly run: (record: MirrorRecord, context: JobContext) => Promise<void>;
}

/** A job that has the mirror for itself. @throws MIRROR_UNKNOWN */
export function submitMirrorWork(deps: MirrorDeps, name: string, work: Work): Job {
  const { catalog, engine } = deps;
  findRecord(deps, name);
  return engine.submit(engine.newId(), {
    kind: work.kind,
    lane: (start) => deps.laneOf(name)(start),
    vmName: null,
    backupId: null,
    request: { mirror: name, ...work.request },
    run: async (context) => {
      context.setPhase('working');
      await work.run(findRecord(deps, name), context);
    },
    ended: (job) => {
      catalog.events.add({
        ...endOf(job, work.event, {
          completed: `${work.what} of the mirror ${name} has ended.`,
          cancelled: `${work.what} of the mirror ${name} was cancelled.`,
          failed: `${work.what} of the mirror ${name} failed: `,
        }),
        subject: name,
        data: { job_id: job.id, mirror: name, result: job.result },
      });
    },
  });
}

/** @param deepPercent of all blocks that are read and opened */
export function startMirrorVerify(deps: MirrorDeps, name: string, deepPercent: number): Job {
  return submitMirrorWork(deps, name, {
    kind: 'mirror-verify',
    event: 'mirror.verify',
    what: 'Verification',
    request: { deep_percent: deepPercent },
    run: async (record, { signal, setResult, setPhase }) => {
      setPhase('verifying');
      const { mirrorHealth } = deps.catalog;
      const deepRuns = mirrorHealth.verified(name)?.deepRuns ?? 0;
      const { problems, damaged, ...counts } = await runTask({
        mirrorFile: deps.mirrorFile,
        task: {
          task: 'verify',
          access: await accessOf(deps, record),
          deepPercent,
          run: deepRuns,
          indexFile: record.epoch === null ? null : indexFileOf(deps, name),
        },
        signal,
      });
      // what was seen damaged once stays so until it is made anew; a look at all of it is proof of the contrary
      if (deepPercent >= 100) mirrorHealth.clearDamaged(name, mirrorHealth.damaged(name));
      mirrorHealth.addDamaged(name, damaged);
      mirrorHealth.saveVerified(name, {
        deepRuns: deepRuns + (deepPercent > 0 ? 1 : 0),
        at: deps.clock.now().toISOString(),
        problems: problems.length,
      });
      setResult({ ...counts, damaged, problems: problems.slice(0, 100), problem_count: problems.length });
      const [first] = problems;
      if (!first) return;
      const detail = `${first.detail.replace(/\.$/, '')} (${first.point}); ${problems.length} problems in all`;
      throw new SendenseError('MIRROR_OBJECT_DAMAGED', { key: first.key, detail });
    },
  });
}

/**
 * Deletes exactly these restore points, then condemns and deletes what nothing needs any more.
 * @param backupIds none: only garbage is collected
 * @param graceHours how long after it was condemned something is deleted
 */
export function startMirrorPrune(
  deps: MirrorDeps,
  name: string,
  backupIds: readonly string[],
  graceHours: number,
): Job {
  const record = findRecord(deps, name);
  refuseReader(record);
  const doomed = backupIds.flatMap((id) => pointsOf(deps, record, id).map((point) => point.name));
  return submitMirrorWork(deps, name, {
    kind: 'mirror-prune',
    event: 'mirror.prune',
    what: 'Pruning',
    request: { backups: backupIds, grace_hours: graceHours },
    run: async (current, { signal, setResult, setPhase, warn }) => {
      const access = await accessOf(deps, current);
      const indexFile = indexFileOf(deps, name);
      const run = { mirrorFile: deps.mirrorFile, signal };
      setPhase('deleting');
      if (doomed.length > 0)
        await runTask({ ...run, task: { task: 'delete', access, indexFile, points: doomed } });
      deps.catalog.mirrors.addPruned(name, backupIds);
      setPhase('collecting');
      const graceMs = graceHours * HOUR_MS;
      const report: CollectReport = await runTask({
        ...run,
        task: { task: 'collect', access, indexFile, graceMs },
      });
      if (report.waiting !== null) warn(`Nothing was collected: ${report.waiting}.`);
      setResult({
        restore_points: backupIds.length,
        condemned: report.condemned,
        deleted: report.deleted,
        freed_bytes: report.freedBytes,
      });
      await refreshPoints(deps, current);
    },
  });
}

interface LockOrder {
  /** None: all that are there. */
  readonly backupIds: readonly string[];
  readonly days: number | null;
  readonly legalHold: boolean | null;
}

/** Extends the locks of restore points and of all they stand on. */
export function startMirrorLock(deps: MirrorDeps, name: string, order: LockOrder): Job {
  const record = findRecord(deps, name);
  const lock = record.settings.lock;
  if (record.capabilities?.['object_lock'] !== true)
    throw new SendenseError('MIRROR_INVALID', { detail: `"${name}" has no object locks` });
  const points =
    order.backupIds.length === 0
      ? deps.catalog.mirrors.points(name)
      : order.backupIds.flatMap((id) => pointsOf(deps, record, id));
  return submitMirrorWork(deps, name, {
    kind: 'mirror-lock',
    event: 'mirror.lock',
    what: 'Locking',
    request: { backups: order.backupIds, days: order.days, legal_hold: order.legalHold },
    run: async (current, { signal, setResult }) => {
      const days = order.days;
      const until = days === null ? null : new Date(deps.clock.now().getTime() + days * 24 * HOUR_MS);
      const result = await runTask({
        mirrorFile: deps.mirrorFile,
        signal,
        task: {
          task: 'lock',
          access: await accessOf(deps, current),
          indexFile: indexFileOf(deps, name),
          points: points.map((point) => point.name),
          retention: until === null ? null : { mode: lock?.mode ?? 'governance', until: until.toISOString() },
          legalHold: order.legalHold,
        },
      });
      setResult({ restore_points: points.length, extended: result.extended });
      await refreshPoints(deps, current);
    },
  });
}
