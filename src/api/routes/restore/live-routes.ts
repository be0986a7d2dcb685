import { z } from 'zod';
import { type LiveDeps, openLiveExport } from '../../../jobs/restore/open-live-export.ts';
import { type KeepDeps, startKeepLive } from '../../../jobs/restore/start-keep-live.ts';
import type { LiveSession } from '../../../restore/live/live-registry.ts';
import { machineOfPoint } from '../../access/subjects.ts';
import { defineRoute, type Route } from '../../route.ts';
import { backupRef, flag, id, jobAnswer, path } from '../../schemas.ts';
import { jobView } from '../../views.ts';

const tag = 'live';
const params = z.object({ live_id: id });
const liveAnswer = z.looseObject({
  live_id: z.string(),
  backup_id: z.string(),
  writable: z.boolean(),
  state: z.enum(['serving', 'keeping']),
  socket: z.string().nullable(),
  address: z.string().nullable(),
  port: z.number().nullable(),
  tls: z.boolean(),
  clients: z.number(),
  overlay_bytes: z.number(),
  created_at: z.string(),
  expires_at: z.string(),
  disks: z.array(
    z.looseObject({
      disk_id: z.number(),
      export_name: z.string(),
      size_bytes: z.number(),
      connect: z.looseObject({ uri: z.string(), nbdinfo: z.string() }),
    }),
  ),
});

async function liveView(session: LiveSession) {
  const { live } = session;
  return {
    liveId: live.liveId,
    backupId: session.backupId,
    writable: session.writable,
    state: session.isKeeping ? 'keeping' : 'serving',
    socket: live.socketPath,
    address: live.tcp?.host ?? null,
    port: live.tcp?.port ?? null,
    tls: live.tcp?.tls ?? false,
    clients: await live.clients(),
    overlayBytes: await live.overlayBytes(),
    createdAt: session.createdAt.toISOString(),
    expiresAt: session.expiresAt.toISOString(),
    disks: live.disks.map(({ diskIndex, images: _images, ...disk }) => ({ diskId: diskIndex, ...disk })),
  };
}

/** Restore points served as NBD exports. */
export function liveRoutes(deps: LiveDeps & KeepDeps): Route[] {
  const { lives } = deps;
  return [
    defineRoute({
      method: 'post',
      path: '/restore/live',
      tag,
      status: 201,
      summary: 'Serve a restore point as NBD exports',
      access: { role: 'restore', about: ['backup_id'] },
      secretFields: ['psk'],
      answer: liveAnswer.extend({
        psk: z
          .object({ identity: z.string(), key: z.string() })
          .nullable()
          .meta({ description: 'The key for TLS; only this answer has it' }),
      }),
      body: z.strictObject({
        backup_id: backupRef,
        disk: z.number().int().min(0).max(9999).optional(),
        writable: z.boolean().default(false),
        tcp: z.boolean().default(false),
        port: z.number().int().min(1).max(65_535).optional(),
        tls: z
          .boolean()
          .default(false)
          .meta({ description: 'With `tcp`; always on when the address is not loopback' }),
        expires_s: z
          .number()
          .int()
          .min(1)
          .max(30 * 86_400)
          .optional(),
        force_expiry: z.boolean().default(false).meta({ description: 'Cut clients off when the time is up' }),
      }),
      handle: async ({ body }) => {
        const session = await openLiveExport(deps, {
          backup: body.backup_id,
          diskIndex: body.disk ?? null,
          writable: body.writable,
          tcp: body.tcp || body.port !== undefined || body.tls,
          port: body.port ?? null,
          tls: body.tls,
          expiresS: body.expires_s ?? null,
          forceExpiry: body.force_expiry,
        });
        return { ...(await liveView(session)), psk: session.live.psk };
      },
    }),
    defineRoute({
      method: 'get',
      path: '/restore/live',
      tag,
      summary: 'All live exports',
      access: { role: 'viewer', about: 'listed' },
      answer: z.object({ exports: z.array(liveAnswer) }),
      handle: async ({ caller }) => {
        const seen = lives
          .list()
          .filter(({ backupId }) => caller.sees(machineOfPoint(deps.catalog, backupId)));
        return { exports: await Promise.all(seen.map(liveView)) };
      },
    }),
    defineRoute({
      method: 'get',
      path: '/restore/live/{live_id}',
      tag,
      summary: 'One live export',
      access: { role: 'restore', about: ['live_id'] },
      params,
      answer: liveAnswer,
      handle: async ({ params }) => await liveView(lives.get(params.live_id)),
    }),
    defineRoute({
      method: 'post',
      path: '/restore/live/{live_id}/keep',
      tag,
      status: 202,
      summary: 'Make an image of its own from a writable live export',
      access: { role: 'restore', about: ['live_id'] },
      params,
      answer: jobAnswer,
      body: z.strictObject({
        disk: z.number().int().min(0).max(9999).optional(),
        output: path,
        format: z.enum(['raw', 'qcow2', 'vmdk', 'vhdx']).default('qcow2'),
        overwrite: z.boolean().default(false),
        disconnect: z.boolean().default(false).meta({ description: 'Cut clients off' }),
      }),
      handle: async ({ params, body, caller }) => {
        await caller.confirmPlace(body.output);
        return jobView(
          await startKeepLive(deps, {
            liveId: params.live_id,
            diskIndex: body.disk ?? null,
            output: body.output,
            format: body.format,
            overwrite: body.overwrite,
            disconnect: body.disconnect,
          }),
        );
      },
    }),
    defineRoute({
      method: 'delete',
      path: '/restore/live/{live_id}',
      tag,
      status: 204,
      summary: 'End a live export; what was written to it is thrown away',
      access: { role: 'restore', about: ['live_id'] },
      params,
      query: z.strictObject({ disconnect: flag }),
      answer: z.null(),
      handle: async ({ params, query }) => lives.close(params.live_id, { disconnect: query.disconnect }),
    }),
  ];
}
