import { z } from 'zod';
import { SendenseError } from '../../../base/sendense-error.ts';
import { type PinDeps, pinBackup, unpinBackup } from '../../../jobs/chains/pins.ts';
import { previewConsolidation } from '../../../jobs/chains/preview-consolidation.ts';
import { type ConsolidateWishes, startConsolidate } from '../../../jobs/chains/start-consolidate.ts';
import { findVm } from '../../../jobs/find-backup.ts';
import type { MachinePlan } from '../../../jobs/prune/plan-prune.ts';
import {
  makePrunePlan,
  type PruneDeps,
  recallPrunePlan,
  startPrune,
} from '../../../jobs/prune/start-prune.ts';
import { describeRules } from '../../../policy/retention/describe-rules.ts';
import { type RetentionRules, retentionRules } from '../../../policy/retention/retention-rules.ts';
import { defineRoute, type Route } from '../../route.ts';
import { backupRef, id, jobStatus, repositoryName, vmName } from '../../schemas.ts';

export interface ChainRouteDeps extends PruneDeps, PinDeps {
  /** Of a request that names no rules. */
  readonly defaultRules: RetentionRules;
  readonly consolidation: ConsolidateWishes;
}

const MIB = 1024 * 1024;
const pinAnswer = z.object({
  pin_id: z.string(),
  backup_id: z.string(),
  reason: z.string(),
  until: z.string().nullable(),
  created_at: z.string(),
});
/** What happens to the points of one machine. */
export const prunePointAnswer = z.object({
  vm_name: z.string(),
  repository: z.string(),
  deletes_last_good: z.boolean(),
  points: z.array(
    z.looseObject({
      backup_id: z.string(),
      completed_at: z.string(),
      action: z.enum(['keep', 'delete']),
      reason: z.string(),
      bytes: z.number(),
      freed_bytes: z.number(),
      merged_bytes: z.number(),
      chain: z.array(z.string()),
    }),
  ),
});
const planAnswer = z.object({
  plan_id: z.string(),
  rules: z.string(),
  deletes: z.number(),
  keeps: z.number(),
  freed_bytes: z.number(),
  merged_bytes: z.number(),
  machines: z.array(prunePointAnswer),
});
export const prunePointsView = ({ vm, repository, points, deletesLastGood }: MachinePlan) => ({
  vmName: vm.name,
  repository: repository.name,
  deletesLastGood,
  points: points.map(({ texts, ...point }) => ({ ...point, chain: texts })),
});

function planView(planId: string, machines: readonly MachinePlan[], rules: string) {
  const points = machines.flatMap((machine) => machine.points);
  const doomed = points.filter(({ action }) => action === 'delete');
  return {
    planId,
    rules,
    deletes: doomed.length,
    keeps: points.length - doomed.length,
    freedBytes: doomed.reduce((sum, point) => sum + point.freedBytes, 0),
    mergedBytes: doomed.reduce((sum, point) => sum + point.mergedBytes, 0),
    machines: machines.map(prunePointsView),
  };
}

/** Pins, retention and the merging of layers. */
export function chainRoutes(deps: ChainRouteDeps): Route[] {
  return [
    defineRoute({
      method: 'post',
      path: '/backup/{backup_id}/pins',
      tag: 'retention',
      status: 201,
      summary: 'Keep a restore point, whatever the rules say',
      access: { role: 'operator', about: ['backup_id'] },
      params: z.object({ backup_id: backupRef }),
      body: z.strictObject({
        reason: z.string().min(1).max(500),
        until: z.iso.datetime({ offset: true }).nullable().default(null),
      }),
      answer: pinAnswer,
      handle: ({ params, body }) =>
        pinBackup(deps, params.backup_id, body.reason, body.until === null ? null : new Date(body.until)),
    }),
    defineRoute({
      method: 'delete',
      path: '/backup/{backup_id}/pins',
      tag: 'retention',
      summary: 'Take a pin away, or all pins of a restore point',
      access: { role: 'admin', about: ['backup_id'] },
      params: z.object({ backup_id: backupRef }),
      query: z.strictObject({ pin_id: id.optional() }),
      answer: z.object({ removed: z.number() }),
      handle: async ({ params, query }) => ({
        removed: await unpinBackup(deps, params.backup_id, query.pin_id ?? null),
      }),
    }),
    defineRoute({
      method: 'post',
      path: '/backup/consolidate',
      tag: 'retention',
      status: 202,
      summary: 'Merge away the layers of deleted backups and shorten the chains of a machine',
      access: { role: 'operator', about: ['vm_name'] },
      body: z.strictObject({
        vm_name: vmName,
        repository: repositoryName.default('local'),
        full: z
          .boolean()
          .default(false)
          .meta({ description: 'Also give the newest restore point a full of its own, made from its chain' }),
        beside: z
          .boolean()
          .default(false)
          .meta({ description: 'Where a file is in use, write a new one beside it instead of waiting' }),
        rate_mib_per_s: z.number().int().min(1).max(100_000).optional(),
        dry_run: z.boolean().default(false),
      }),
      answer: z.object({
        job_id: z.string().nullable(),
        status: jobStatus.nullable(),
        steps: z
          .array(z.looseObject({ disk_id: z.number(), operation: z.string(), layer: z.string() }))
          .optional(),
      }),
      handle: async ({ body }) => {
        const place = {
          vm: findVm(deps.catalog, body.vm_name),
          repository: deps.repositories.byName(body.repository),
        };
        const maxDepth = body.full ? 1 : deps.consolidation.maxDepth;
        if (body.dry_run)
          return {
            jobId: null,
            status: null,
            steps: await previewConsolidation(deps.catalog, place, maxDepth),
          };
        const job = startConsolidate(deps, place, {
          maxDepth,
          rateBytes: body.rate_mib_per_s === undefined ? null : body.rate_mib_per_s * MIB,
          besideWhenHeld: body.beside,
        });
        return { jobId: job.id, status: job.status };
      },
    }),
    defineRoute({
      method: 'post',
      path: '/prune/plan',
      tag: 'retention',
      summary: 'Decide for every restore point whether it stays, and say why; deletes nothing',
      access: { role: 'operator', about: ['vm_name'] },
      body: z.strictObject({
        vm_name: vmName.optional(),
        repository: repositoryName.optional(),
        rules: retentionRules.optional(),
      }),
      answer: planAnswer,
      handle: async ({ body }) => {
        const rules = body.rules ?? deps.defaultRules;
        const { planId, plan } = makePrunePlan(deps, {
          vmName: body.vm_name ?? null,
          repository: body.repository ?? null,
          rules,
        });
        return planView(planId, plan.machines, describeRules(rules));
      },
    }),
    defineRoute({
      method: 'post',
      path: '/prune/apply',
      tag: 'retention',
      status: 202,
      summary: 'Do exactly what a plan showed; refused when the world has changed since',
      access: { role: 'admin', about: 'appliance' },
      body: z.strictObject({
        plan_id: id,
        force: z
          .boolean()
          .default(false)
          .meta({ description: 'Even if a machine loses its last good restore point' }),
        dry_run: z.boolean().default(false),
      }),
      answer: z.object({
        plan_id: z.string(),
        job_id: z.string().nullable(),
        deletes: z.array(z.string()),
      }),
      handle: async ({ body }) => {
        const plan = recallPrunePlan(deps, body.plan_id);
        const deletes = plan.machines.flatMap(({ points }) =>
          points.filter(({ action }) => action === 'delete').map(({ backupId }) => backupId),
        );
        const emptied = plan.machines.filter(({ deletesLastGood }) => deletesLastGood);
        if (body.dry_run && emptied.length > 0 && !body.force)
          throw new SendenseError('PRUNE_LAST_GOOD', { vms: emptied.map(({ vm }) => vm.name).join(', ') });
        const job = body.dry_run ? null : await startPrune(deps, body.plan_id, body.force);
        return { planId: body.plan_id, jobId: job?.id ?? null, deletes };
      },
    }),
  ];
}
