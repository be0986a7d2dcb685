import { z } from 'zod';
import type { PolicyRun, RunTask, TaskCounts } from '../../../catalog/policies/policy-runs.ts';
import { findRun, type PolicyDeps, runPolicyNow } from '../../../jobs/policies/manage-policies.ts';
import { nextRuns } from '../../../jobs/policies/preview-policy.ts';
import { policyKinds } from '../../../policy/definition/policy.ts';
import { EXPORTED, plainPath, unitsOf } from '../../../policy/schedules/systemd-units.ts';
import { defineRoute, type Route } from '../../route.ts';
import { limit, queryNumber, vmName } from '../../schemas.ts';

const tag = 'policies';
const kind = z.enum(policyKinds);

export const nextRunAnswer = z.object({
  policy: z.string(),
  kind,
  schedule: z.string(),
  runner: z.enum(['daemon', 'systemd', 'none']),
  due_at: z.string(),
  starts_at: z.string(),
  local: z.string(),
});

const runAnswer = z.looseObject({
  run_id: z.number(),
  policy: z.string(),
  kind: z.string(),
  due_at: z.string(),
  started_by: z.enum(['schedule', 'after-backup', 'systemd', 'operator']),
  missed: z.number(),
  claimed_at: z.string(),
  finished_at: z.string().nullable(),
  outcome: z.enum(['completed', 'partly', 'failed', 'skipped', 'interrupted']).nullable(),
  detail: z.string(),
  counts: z.record(z.string(), z.number()),
  tasks: z
    .array(
      z.object({
        vm_name: z.string(),
        target: z.string(),
        status: z.enum(['waiting', 'running', 'completed', 'failed', 'skipped']),
        attempts: z.number(),
        job_id: z.string().nullable(),
        detail: z.string(),
      }),
    )
    .optional(),
});

const runView = ({ id, ...run }: PolicyRun, counts: TaskCounts, tasks?: readonly RunTask[]) => ({
  runId: id,
  ...run,
  counts,
  ...(tasks === undefined ? {} : { tasks: tasks.map(({ contextId: _id, ...task }) => task) }),
});

/** When policies run, and what came of it. */
export function scheduleRoutes(deps: PolicyDeps): Route[] {
  const { catalog } = deps;
  return [
    defineRoute({
      method: 'get',
      path: '/schedules',
      tag,
      summary: 'What comes next, of all policies, soonest first',
      access: { role: 'viewer', about: 'appliance' },
      query: z.strictObject({
        count: queryNumber(1, 100)
          .default(1)
          .meta({ override: { default: 1 } }),
      }),
      answer: z.object({ schedules: z.array(nextRunAnswer) }),
      handle: async ({ query }) => ({
        schedules: deps.book
          .all()
          .flatMap(({ policy }) => nextRuns(deps, policy, query.count))
          .toSorted((a, b) => (a.startsAt < b.startsAt ? -1 : 1)),
      }),
    }),
    defineRoute({
      method: 'get',
      path: '/schedules/systemd',
      tag,
      summary: 'Timers and services of systemd for the policies that it runs',
      access: { role: 'viewer', about: 'appliance' },
      query: z.strictObject({
        ctl: z.string().regex(plainPath, 'an absolute path').default('/usr/bin/sendense-ctl'),
        home: z.string().regex(plainPath, 'an absolute path').optional(),
      }),
      answer: z.object({
        mark: z.string(),
        files: z.array(z.object({ name: z.string(), content: z.string() })),
      }),
      handle: async ({ query: { ctl, home = null } }) => ({
        mark: EXPORTED,
        files: unitsOf(
          deps.book.all().map(({ policy }) => policy),
          { ctl, home },
        ),
      }),
    }),
    defineRoute({
      method: 'post',
      path: '/policies/{policy}/run',
      tag,
      status: 202,
      summary: 'Run a policy now, for all of its machines',
      access: { role: 'operator', about: 'appliance' },
      params: z.object({ policy: vmName }),
      body: z.strictObject({
        kind: kind.default('backup'),
        started_by: z.enum(['operator', 'systemd']).default('operator'),
      }),
      answer: runAnswer,
      handle: async ({ params, body }) => {
        const run = runPolicyNow(deps, params.policy, body.kind, body.started_by);
        return runView(run, catalog.policyRuns.counts(run.id));
      },
    }),
    defineRoute({
      method: 'get',
      path: '/policy-runs',
      tag,
      summary: 'Runs of policies, newest first',
      access: { role: 'viewer', about: 'appliance' },
      query: z.strictObject({ policy: vmName.optional(), limit }),
      answer: z.object({ runs: z.array(runAnswer) }),
      handle: async ({ query }) => ({
        runs: catalog.policyRuns
          .list(query.policy ?? null, query.limit)
          .map((run) => runView(run, catalog.policyRuns.counts(run.id))),
      }),
    }),
    defineRoute({
      method: 'get',
      path: '/policy-runs/{run}',
      tag,
      summary: 'One run with its parts',
      access: { role: 'viewer', about: 'appliance' },
      params: z.object({ run: queryNumber(1, Number.MAX_SAFE_INTEGER) }),
      answer: runAnswer,
      handle: async ({ params }) => {
        const { run, tasks } = findRun(deps, params.run);
        return runView(run, catalog.policyRuns.counts(run.id), tasks);
      },
    }),
  ];
}
