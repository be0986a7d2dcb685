import { z } from 'zod';
import type { FetchDeps } from '../../../jobs/mirror/fetch-point.ts';
import {
  accessOf,
  ask,
  findRecord,
  type MirrorDeps,
  refreshPoints,
} from '../../../jobs/mirror/mirror-deps.ts';
import { mirroredBackups } from '../../../jobs/mirror/mirror-points.ts';
import { mirrorRules } from '../../../jobs/mirror/mirror-rules.ts';
import { applyMirrorPrune, planMirrorPrune } from '../../../jobs/mirror/plan-mirror-prune.ts';
import { startFetch } from '../../../jobs/mirror/start-fetch.ts';
import {
  startMirrorLock,
  startMirrorPrune,
  startMirrorVerify,
} from '../../../jobs/mirror/start-mirror-work.ts';
import { startSync } from '../../../jobs/mirror/start-sync.ts';
import { type RetentionRules, retentionRules } from '../../../policy/retention/retention-rules.ts';
import { defineRoute, type Route } from '../../route.ts';
import { backupRef, flag, id, jobAnswer, repositoryName, vmName } from '../../schemas.ts';
import { jobView } from '../../views.ts';
import { mirrorLineAnswer, mirrorLineView } from './mirror-line.ts';
import { mirrorName } from './mirror-routes.ts';

const tag = 'mirrors';
const params = z.object({ mirror: mirrorName });
const pointAnswer = z.looseObject({
  backup_id: z.string(),
  vm_name: z.string(),
  created_at: z.string(),
  completed_at: z.string(),
  uploaded_at: z.string(),
  whole: z.boolean(),
  locked_until: z.string().nullable(),
  size_bytes: z.number(),
  stored_bytes: z.number(),
  disks: z.array(z.looseObject({ name: z.string(), disk_id: z.number() })),
});
const graceHours = z
  .number()
  .min(0)
  .max(8760)
  .optional()
  .meta({ description: 'Hours between condemning and deleting; else what the mirror is set to' });

/** What is done with mirrors. */
export function mirrorWorkRoutes(deps: MirrorDeps & FetchDeps): Route[] {
  const rulesOf = (mirror: string, rules: RetentionRules | undefined): RetentionRules =>
    rules ?? mirrorRules(findRecord(deps, mirror));
  const graceOf = (mirror: string, hours: number | undefined): number =>
    hours ?? findRecord(deps, mirror).settings.graceHours;
  return [
    defineRoute({
      method: 'post',
      path: '/mirrors/{mirror}/sync',
      tag,
      status: 202,
      summary: 'Upload restore points that the mirror has not got',
      access: { role: 'operator', about: ['backup_id', 'vm_name'] },
      params,
      body: z.strictObject({
        backup_id: backupRef.optional(),
        vm_name: vmName.optional(),
        missing: z
          .boolean()
          .default(false)
          .meta({ description: 'Also those that retention removed from the mirror' }),
      }),
      answer: jobAnswer,
      handle: async ({ params: { mirror }, body }) =>
        jobView(
          startSync(deps, mirror, {
            backup: body.backup_id ?? null,
            vmName: body.vm_name ?? null,
            isMissing: body.missing,
          }),
        ),
    }),
    defineRoute({
      method: 'get',
      path: '/mirrors/{mirror}/points',
      tag,
      summary: 'Restore points in a mirror',
      access: { role: 'viewer', about: 'listed' },
      params,
      query: z.strictObject({ vm_name: vmName.optional(), refresh: flag }),
      answer: z.object({
        points: z.array(pointAnswer),
        damaged: z.array(z.string()).meta({
          description: 'Points of single disks that cannot be relied on; the next upload makes them anew',
        }),
      }),
      handle: async ({ params: { mirror }, query, caller }) => {
        const record = findRecord(deps, mirror);
        const unreadable = query.refresh ? await refreshPoints(deps, record) : [];
        const damaged = [
          ...new Set([...unreadable, ...deps.catalog.mirrorHealth.damaged(mirror)]),
        ].toSorted();
        const points = mirroredBackups(deps.catalog.mirrors.points(mirror))
          .filter(({ vmName: name }) => caller.sees(name))
          .filter(({ vmName: name }) => query.vm_name === undefined || name === query.vm_name)
          .map(({ isWhole, disks, ...backup }) => ({
            ...backup,
            whole: isWhole,
            disks: disks.map(({ diskIndex, members: _members, ...disk }) => ({ diskId: diskIndex, ...disk })),
          }));
        // they bear names of machines, some of which cannot be told whose they are
        return { points, damaged: caller.isScoped ? [] : damaged };
      },
    }),
    defineRoute({
      method: 'post',
      path: '/mirrors/{mirror}/probe',
      tag,
      summary: 'Find out again what the server can do',
      access: { role: 'operator', about: 'appliance' },
      params,
      body: z.strictObject({}),
      answer: z.record(z.string(), z.unknown()),
      handle: async ({ params: { mirror } }) => {
        const record = findRecord(deps, mirror);
        const { place } = await accessOf(deps, record);
        const wantLock = record.settings.lock !== null;
        const capabilities = await ask(deps, {
          task: 'probe',
          place: { ...place, capabilities: null },
          wantLock,
        });
        deps.catalog.mirrors.save({ ...record, capabilities: { ...capabilities } });
        return { ...capabilities };
      },
    }),
    defineRoute({
      method: 'post',
      path: '/mirrors/{mirror}/verify',
      tag,
      status: 202,
      summary: 'Look whether everything is there; read a part of it',
      access: { role: 'operator', about: 'appliance' },
      params,
      body: z.strictObject({ deep_percent: z.number().min(0).max(100).default(0) }),
      answer: jobAnswer,
      handle: async ({ params: { mirror }, body }) =>
        jobView(startMirrorVerify(deps, mirror, body.deep_percent)),
    }),
    defineRoute({
      method: 'post',
      path: '/mirrors/{mirror}/prune/plan',
      tag,
      summary: 'What retention would keep and delete in a mirror',
      access: { role: 'operator', about: 'appliance' },
      params,
      body: z.strictObject({ rules: retentionRules.optional() }),
      answer: z.object({
        plan: z.string(),
        last_of: z.array(z.string()),
        points: z.array(mirrorLineAnswer),
      }),
      handle: async ({ params: { mirror }, body }) => {
        const { plan, lines, lastOf } = planMirrorPrune(deps, mirror, rulesOf(mirror, body.rules));
        return { plan, lastOf, points: lines.map(mirrorLineView) };
      },
    }),
    defineRoute({
      method: 'post',
      path: '/mirrors/{mirror}/prune/apply',
      tag,
      status: 202,
      summary: 'Carry out exactly that plan',
      access: { role: 'admin', about: 'appliance' },
      params,
      body: z.strictObject({
        plan: z.string().regex(/^[0-9a-f]{12}$/, 'the plan that was shown'),
        rules: retentionRules.optional(),
        force: z.boolean().default(false),
        grace_hours: graceHours,
      }),
      answer: jobAnswer,
      handle: async ({ params: { mirror }, body }) =>
        jobView(
          applyMirrorPrune(deps, mirror, rulesOf(mirror, body.rules), {
            plan: body.plan,
            isForced: body.force,
            graceHours: graceOf(mirror, body.grace_hours),
          }),
        ),
    }),
    defineRoute({
      method: 'post',
      path: '/mirrors/{mirror}/gc',
      tag,
      status: 202,
      summary: 'Condemn and delete what no restore point needs',
      access: { role: 'admin', about: 'appliance' },
      params,
      body: z.strictObject({ grace_hours: graceHours }),
      answer: jobAnswer,
      handle: async ({ params: { mirror }, body }) =>
        jobView(startMirrorPrune(deps, mirror, [], graceOf(mirror, body.grace_hours))),
    }),
    defineRoute({
      method: 'post',
      path: '/mirrors/{mirror}/lock',
      tag,
      status: 202,
      summary: 'Extend locks, or set and lift a legal hold',
      access: { role: 'admin', about: 'appliance' },
      params,
      body: z.strictObject({
        backup_ids: z.array(id).max(10_000).default([]).meta({ description: 'None: all restore points' }),
        days: z.number().int().min(1).max(36_500).nullish(),
        legal_hold: z.boolean().nullish(),
      }),
      answer: jobAnswer,
      handle: async ({ params: { mirror }, body }) =>
        jobView(
          startMirrorLock(deps, mirror, {
            backupIds: body.backup_ids,
            days: body.days ?? null,
            legalHold: body.legal_hold ?? null,
          }),
        ),
    }),
    defineRoute({
      method: 'post',
      path: '/mirrors/{mirror}/fetch',
      tag,
      status: 202,
      summary: 'Bring a restore point back into a repository, where its chain goes on',
      access: { role: 'operator', about: 'appliance' },
      params,
      body: z.strictObject({ backup_id: backupRef, repository: repositoryName.default('local') }),
      answer: jobAnswer,
      handle: async ({ params: { mirror }, body }) =>
        jobView(await startFetch(deps, mirror, body.backup_id, body.repository)),
    }),
  ];
}
