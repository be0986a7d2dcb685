import { z } from 'zod';
import { SendenseError } from '../../../base/sendense-error.ts';
import type { CopySelection } from '../../../jobs/copy/choose-points.ts';
import { type StartCopyDeps, startCopy } from '../../../jobs/copy/start-copy.ts';
import { defineRoute, type Route } from '../../route.ts';
import { backupRef, jobStatus, repositoryName, vmName } from '../../schemas.ts';

const body = z.strictObject({
  backup_id: backupRef.optional(),
  vm_name: vmName.optional(),
  all: z.boolean().default(false).meta({ description: 'Restore points of every machine' }),
  missing: z
    .boolean()
    .default(false)
    .meta({ description: 'Also those older than the newest copy, as retention may have removed them there' }),
  to: repositoryName,
});

function selectionOf({ backup_id, vm_name, all, missing }: z.infer<typeof body>): CopySelection {
  const named = [backup_id !== undefined, vm_name !== undefined, all].filter(Boolean).length;
  if (named !== 1)
    throw new SendenseError('REQUEST_INVALID', { detail: 'name one of backup_id, vm_name and all' });
  if (backup_id !== undefined) return { kind: 'backup', backup: backup_id };
  if (vm_name !== undefined) return { kind: 'vm', vmName: vm_name, isMissing: missing };
  return { kind: 'all', isMissing: missing };
}

export function copyRoutes(deps: StartCopyDeps): Route[] {
  return [
    defineRoute({
      method: 'post',
      path: '/backup/copy',
      tag: 'backup',
      status: 202,
      summary: 'Copy restore points into another repository',
      access: { role: 'operator', about: ['backup_id', 'vm_name'] },
      body,
      answer: z.object({ job_id: z.string(), backup_id: z.string().nullable(), status: jobStatus }),
      handle: async ({ body: wanted }) => {
        const job = startCopy(deps, selectionOf(wanted), wanted.to);
        return { jobId: job.id, backupId: job.backupId, status: job.status };
      },
    }),
  ];
}
