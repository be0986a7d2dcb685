import { z } from 'zod';
import { type CoverageReport, reportCoverage } from '../../../jobs/policies/report-coverage.ts';
import type { RunnerDeps } from '../../../jobs/policies/run/runner-deps.ts';
import { coverageProblems } from '../../../policy/coverage/judge-machine.ts';
import { defineRoute, type Route } from '../../route.ts';
import { flag, queryNumber } from '../../schemas.ts';
import type { Health } from '../system/system-routes.ts';
import { absentAnswer } from './absent-answer.ts';

const tag = 'policies';
const report = z.object({
  ok: z.boolean(),
  checked_at: z.string(),
  counts: z.record(z.string(), z.number()),
  machines: z.array(
    z.object({
      vm_name: z.string(),
      policies: z.array(z.string()),
      unprotected: z.string().nullable(),
      last_backup_at: z.string().nullable(),
      verified_at: z.string().nullable(),
      boot_test: z
        .object({
          backup_id: z.string(),
          tested_at: z.string(),
          outcome: z.enum(['passed', 'failed']),
          reason: z.string(),
        })
        .nullable(),
      problems: z.array(
        z.object({
          problem: z.enum(coverageProblems),
          severity: z.enum(['alarm', 'notice']),
          detail: z.string(),
        }),
      ),
    }),
  ),
  not_shown: z.number(),
  absent: z
    .array(absentAnswer.extend({ policy: z.string() }))
    .meta({ description: 'What policies name and nobody has' }),
  unkept_mirrors: z
    .array(z.string())
    .meta({ description: 'With locks or retention, and in no mirror run of any policy' }),
  broken_policies: z.array(z.object({ file: z.string(), detail: z.string() })),
});
const query = z.strictObject({
  all: flag.meta({ description: 'Also the machines without problems' }),
  limit: queryNumber(0, 100_000)
    .default(1000)
    .meta({ override: { default: 1000 } }),
});

/** Those that the caller wants to see; the counts are of all. */
function shown({ machines, ...rest }: CoverageReport, all: boolean, limit: number) {
  const wanted = all ? machines : machines.filter(({ problems }) => problems.length > 0);
  return { ...rest, machines: wanted.slice(0, limit), notShown: Math.max(0, wanted.length - limit) };
}

/** What is protected as its policies promise, and what is not. */
export function coverageRoutes(
  deps: Pick<RunnerDeps, 'book' | 'catalog' | 'clock'> & { readonly health: () => Health },
): Route[] {
  return [
    defineRoute({
      method: 'get',
      path: '/coverage',
      tag,
      summary: 'What is unprotected, overdue, failing, never verified, not mirrored or did not boot',
      access: { role: 'viewer', about: 'appliance' },
      query,
      answer: report,
      handle: async ({ query: { all, limit } }) => shown(reportCoverage(deps), all, limit),
    }),
    defineRoute({
      method: 'get',
      path: '/status',
      tag: 'system',
      summary: 'The state of the daemon and of the protection, for monitoring',
      access: { role: 'viewer', about: 'appliance' },
      query,
      answer: z.looseObject({ status: z.string(), coverage: report }),
      handle: async ({ query: { all, limit } }) => ({
        ...deps.health(),
        coverage: shown(reportCoverage(deps), all, limit),
      }),
    }),
  ];
}
