import { z } from 'zod';
import { type MountDeps, openRestoreMount } from '../../../jobs/restore/open-restore-mount.ts';
import { mountModes } from '../../../restore/mount/mount-mode.ts';
import type { MountSession } from '../../../restore/mount/mount-session.ts';
import { machineOfPoint } from '../../access/subjects.ts';
import { defineRoute, type Route } from '../../route.ts';
import { backupRef, id, path } from '../../schemas.ts';

const tag = 'restore';
const mountParams = z.object({ mount_id: id });
const mountAnswer = z.looseObject({
  mount_id: z.string(),
  mount_path: z.string(),
  partitions: z.array(z.looseObject({ key: z.string(), status: z.string() })),
  expires_at: z.string(),
  mount_mode: z.enum(mountModes),
  degraded: z.boolean(),
});
const mountView = (session: MountSession) => ({
  mountId: session.mountId,
  backupId: session.backupId,
  mountPath: session.exposeAt ?? session.mount.mountPath,
  partitions: session.mount.filesystems.map(({ deviceNumber: _deviceNumber, ...filesystem }) => filesystem),
  mountMode: session.mount.mode,
  degraded: session.mount.degraded,
  createdAt: session.createdAt.toISOString(),
  expiresAt: session.expiresAt.toISOString(),
});

export function restoreRoutes(deps: MountDeps): Route[] {
  const { mounts } = deps;
  return [
    defineRoute({
      method: 'post',
      path: '/restore/mount',
      tag,
      status: 201,
      summary: 'Mount a restore point read-only',
      access: { role: 'restore', about: ['backup_id'] },
      answer: mountAnswer,
      body: z.strictObject({
        backup_id: backupRef,
        disk: z.number().int().min(0).optional(),
        mode: z.literal('read-only').default('read-only'),
        mount_mode: z.enum(['auto', ...mountModes]).optional(),
        /** For what is encrypted in the guest; kept nowhere. */
        passphrases: z.array(z.string().min(1).max(512)).max(8).optional(),
        path: path.optional(),
      }),
      handle: async ({ body, caller }) => {
        await caller.confirmPlace(body.path);
        return mountView(
          await openRestoreMount(deps, {
            backup: body.backup_id,
            diskIndex: body.disk ?? null,
            exposeAt: body.path ?? null,
            mode: body.mount_mode,
            passphrases: body.passphrases,
          }),
        );
      },
    }),
    defineRoute({
      method: 'get',
      path: '/restore/mounts',
      tag,
      summary: 'All open mounts',
      access: { role: 'viewer', about: 'listed' },
      answer: z.object({ mounts: z.array(mountAnswer) }),
      handle: async ({ caller }) => ({
        mounts: mounts
          .list()
          .filter(({ backupId }) => caller.sees(machineOfPoint(deps.catalog, backupId)))
          .map(mountView),
      }),
    }),
    defineRoute({
      method: 'delete',
      path: '/restore/{mount_id}',
      tag,
      status: 204,
      summary: 'Unmount',
      access: { role: 'restore', about: ['mount_id'] },
      params: mountParams,
      answer: z.null(),
      handle: async ({ params }) => mounts.close(params.mount_id),
    }),
  ];
}
