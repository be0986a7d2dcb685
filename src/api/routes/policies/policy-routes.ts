import { z } from 'zod';
import { parseInput } from '../../../base/parse-input.ts';
import { SendenseError } from '../../../base/sendense-error.ts';
import type { Vm } from '../../../catalog/vms.ts';
import { knownNames } from '../../../jobs/policies/known-names.ts';
import {
  addPolicy,
  applyPolicies,
  type PolicyDeps,
  putPolicy,
  removePolicy,
} from '../../../jobs/policies/manage-policies.ts';
import type { KeptPolicy } from '../../../jobs/policies/policy-book.ts';
import { previewPolicy } from '../../../jobs/policies/preview-policy.ts';
import { machinesOf } from '../../../jobs/policies/run/plan-tasks.ts';
import { absentNames } from '../../../policy/definition/absent-names.ts';
import { policyDocument } from '../../../policy/definition/policy.ts';
import { defineRoute, type Route } from '../../route.ts';
import { queryNumber, vmName } from '../../schemas.ts';
import { prunePointAnswer, prunePointsView } from '../backups/chain-routes.ts';
import { mirrorLineAnswer, mirrorLineView } from '../mirrors/mirror-line.ts';
import { absentAnswer } from './absent-answer.ts';
import { nextRunAnswer } from './schedule-routes.ts';

const tag = 'policies';
const params = z.object({ policy: vmName });
const absent = z.array(absentAnswer).meta({ description: 'What it names and nobody has' });
const mirrorPreviewAnswer = z.object({
  mirror: z.string(),
  rules: z.string(),
  upkeep: z.boolean().meta({ description: 'False: it is looked after by hand' }),
  schedule: z.string().nullable(),
  points: z.array(mirrorLineAnswer),
  other_points: z.number(),
  last_of: z.array(z.string()),
  renewed: z.number().meta({ description: 'Restore points whose locks would be renewed' }),
});
const policyAnswer = z.looseObject({ name: z.string(), machine_count: z.number(), absent });

/** Policies as such: what is to be done, for whom and when. */
export function policyRoutes(deps: PolicyDeps): Route[] {
  const view = ({ policy, since }: KeptPolicy, all: readonly Vm[] = deps.catalog.vms.all()) => ({
    ...policy,
    since: { ...since },
    machineCount: machinesOf(deps, policy, all).length,
    absent: absentNames(policy, knownNames(deps.catalog, all)),
  });
  return [
    defineRoute({
      method: 'get',
      path: '/policies',
      tag,
      summary: 'All policies',
      access: { role: 'viewer', about: 'appliance' },
      answer: z.object({ policies: z.array(policyAnswer) }),
      handle: async () => {
        const machines = deps.catalog.vms.all();
        return { policies: deps.book.all().map((kept) => view(kept, machines)) };
      },
    }),
    defineRoute({
      method: 'post',
      path: '/policies',
      tag,
      status: 201,
      summary: 'Add a policy',
      access: { role: 'admin', about: 'appliance' },
      body: policyDocument,
      answer: policyAnswer,
      handle: async ({ body }) => view(await addPolicy(deps, body)),
    }),
    defineRoute({
      method: 'post',
      path: '/policies/apply',
      tag,
      summary: 'Bring the policies to what a file says, or tell what that would change',
      access: { role: 'admin', about: 'appliance' },
      body: z.strictObject({
        policies: z.array(policyDocument).max(1000),
        prune: z.boolean().default(false).meta({ description: 'Remove the policies that are not named' }),
        dry_run: z.boolean().default(false),
      }),
      answer: z.object({
        changes: z.array(
          z.object({
            name: z.string(),
            change: z.enum(['add', 'change', 'remove', 'same', 'extra']),
            fields: z.array(z.object({ field: z.string(), from: z.unknown(), to: z.unknown() })),
            absent,
          }),
        ),
      }),
      handle: async ({ body }) => ({
        changes: await applyPolicies(deps, body.policies, { prune: body.prune, dryRun: body.dry_run }),
      }),
    }),
    defineRoute({
      method: 'get',
      path: '/policies/{policy}',
      tag,
      summary: 'One policy',
      access: { role: 'viewer', about: 'appliance' },
      params,
      answer: policyAnswer,
      handle: async ({ params: { policy } }) => view(deps.book.byName(policy)),
    }),
    defineRoute({
      method: 'patch',
      path: '/policies/{policy}',
      tag,
      summary: 'Change fields of a policy; a field that is an object is replaced as a whole',
      access: { role: 'admin', about: 'appliance' },
      params,
      body: z.looseObject({}).meta({ description: 'Any fields of a policy but its name' }),
      answer: policyAnswer,
      handle: async ({ params: { policy }, body }) => {
        const before = deps.book.byName(policy).policy;
        const changed = parseInput(
          policyDocument,
          { ...before, ...body },
          'the policy',
          (detail) => new SendenseError('POLICY_INVALID', { detail }),
        );
        if (changed.name !== before.name)
          throw new SendenseError('POLICY_INVALID', {
            detail: 'its name cannot change; add it under the new name and remove the old one',
          });
        return view(await putPolicy(deps, changed));
      },
    }),
    defineRoute({
      method: 'delete',
      path: '/policies/{policy}',
      tag,
      status: 204,
      summary: 'Remove a policy; restore points and the record of its runs stay',
      access: { role: 'admin', about: 'appliance' },
      params,
      answer: z.null(),
      handle: async ({ params: { policy } }) => removePolicy(deps, policy),
    }),
    defineRoute({
      method: 'get',
      path: '/policies/{policy}/preview',
      tag,
      summary: 'Next runs, chosen machines, and what retention would keep today and why; changes nothing',
      access: { role: 'viewer', about: 'appliance' },
      params,
      query: z.strictObject({
        count: queryNumber(1, 100)
          .default(5)
          .meta({ override: { default: 5 } }),
      }),
      answer: z.object({
        policy: z.string(),
        rules: z.string(),
        machines: z.array(z.string()),
        absent,
        next: z.array(nextRunAnswer),
        retention: z.array(prunePointAnswer),
        mirrors: z.array(mirrorPreviewAnswer),
        not_shown: z.number(),
      }),
      handle: async ({ params: { policy }, query }) => {
        const kept = deps.book.byName(policy);
        const preview = previewPolicy(deps, kept.policy, query.count);
        return {
          ...preview,
          policy,
          retention: preview.retention.map(prunePointsView),
          mirrors: preview.mirrors.map((mirror) => ({
            ...mirror,
            points: mirror.points.map(mirrorLineView),
          })),
        };
      },
    }),
  ];
}
