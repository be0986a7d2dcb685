import { z } from 'zod';
import { startVerify, type VerifyDeps, type VerifySubject } from '../../../jobs/verify/start-verify.ts';
import { defineRoute, type Route } from '../../route.ts';
import { backupRef, jobAnswer, repositoryName, vmName } from '../../schemas.ts';
import { jobView } from '../../views.ts';

const body = z
  .strictObject({
    backup_id: backupRef.optional(),
    vm_name: vmName.optional(),
    repository: repositoryName.optional(),
    clear: z.boolean().default(false),
    rate_mib_per_s: z.number().min(1).max(65_536).optional(),
  })
  .refine(({ backup_id, vm_name, repository }) => countOf(backup_id, vm_name, repository) === 1, {
    error: 'with exactly one of backup_id, vm_name and repository',
  });

const countOf = (...values: (string | undefined)[]) => values.filter((value) => value !== undefined).length;

function subjectOf(wanted: z.infer<typeof body>): VerifySubject {
  if (wanted.backup_id !== undefined) return { kind: 'backup', backup: wanted.backup_id };
  if (wanted.vm_name !== undefined) return { kind: 'vm', vm: wanted.vm_name };
  return { kind: 'repository', repository: wanted.repository ?? '' };
}

export function verifyRoutes(deps: VerifyDeps): Route[] {
  return [
    defineRoute({
      method: 'post',
      path: '/verify',
      tag: 'verify',
      status: 202,
      summary: 'Compare restore points with their digests',
      access: { role: 'operator', about: ['backup_id', 'vm_name'] },
      body,
      answer: jobAnswer,
      handle: async ({ body: wanted }) =>
        jobView(
          await startVerify(deps, {
            subject: subjectOf(wanted),
            clear: wanted.clear,
            mibPerSecond: wanted.rate_mib_per_s ?? null,
          }),
        ),
    }),
  ];
}
