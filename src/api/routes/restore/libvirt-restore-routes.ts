import { z } from 'zod';
import type { LibvirtRestoreDeps } from '../../../jobs/restore/plan-restore-libvirt.ts';
import { startRestoreLibvirt } from '../../../jobs/restore/start-restore-libvirt.ts';
import { defineRoute, type Route } from '../../route.ts';
import { backupRef, jobAnswer, path } from '../../schemas.ts';
import { jobView } from '../../views.ts';

/** Whole machines, back into a libvirt. */
export function libvirtRestoreRoutes(deps: LibvirtRestoreDeps): Route[] {
  return [
    defineRoute({
      method: 'post',
      path: '/restore/libvirt',
      tag: 'restore',
      status: 202,
      summary: 'Make a machine of a libvirt from a restore point',
      access: { role: 'operator', about: ['backup_id'] },
      answer: jobAnswer,
      body: z.strictObject({
        backup_id: backupRef,
        uri: z.string().min(1).max(1024).optional().meta({ description: 'Absent: where it was backed up' }),
        name: z
          .string()
          .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, 'a plain name')
          .optional()
          .meta({ description: 'Absent: the old name with `-restored`' }),
        output: path.startsWith('/').optional().meta({
          description: 'Folder of the libvirt host for the new images; absent: where the old ones were',
        }),
        network: z.enum(['none', 'same']).default('none'),
        keep_identity: z
          .boolean()
          .default(false)
          .meta({ description: 'UUID and MAC addresses as they were' }),
        start: z.boolean().default(false),
        instant: z
          .boolean()
          .default(false)
          .meta({ description: 'Started at once on the backup itself, and copied behind' }),
      }),
      handle: async ({ body, caller }) => {
        // of another libvirt, and of any folder of its host, only an admin decides
        await caller.confirmPlace(body.uri);
        await caller.confirmPlace(body.output);
        return jobView(
          await startRestoreLibvirt(deps, {
            backup: body.backup_id,
            uri: body.uri ?? null,
            name: body.name ?? null,
            folder: body.output ?? null,
            network: body.network,
            keepIdentity: body.keep_identity,
            start: body.start,
            instant: body.instant,
          }),
        );
      },
    }),
  ];
}
