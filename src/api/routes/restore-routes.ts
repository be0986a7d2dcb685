import { pipeline } from 'node:stream/promises';
import type { Request, Response } from 'express';
import { z } from 'zod';
import { hasCode, SendenseError } from '../../base/sendense-error.ts';
import { type MountDeps, openRestoreMount } from '../../jobs/restore/open-restore-mount.ts';
import { type DirectoryDownload, type FileDownload, openDownload } from '../../restore/browse/download.ts';
import { listFiles } from '../../restore/browse/list-files.ts';
import { parseRange } from '../../restore/browse/range.ts';
import { mountModes } from '../../restore/mount/mount-mode.ts';
import type { MountSession } from '../../restore/mount/mount-session.ts';
import { defineRoute, type Route, streamed } from '../route.ts';
import { backupRef, id, limit, path } from '../schemas.ts';

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
/** A path as text, or its exact bytes in base64 for names that are no UTF-8. */
const pathQuery = { path: z.string().max(4096).default('/'), path_b64: z.base64().max(8192).optional() };
const guestPath = (query: { path: string; path_b64?: string | undefined }) =>
  query.path_b64 === undefined ? query.path : Buffer.from(query.path_b64, 'base64');

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
  const { mounts, catalog } = deps;
  return [
    defineRoute({
      method: 'post',
      path: '/restore/mount',
      tag,
      status: 201,
      summary: 'Mount a restore point read-only',
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
      handle: async ({ body }) =>
        mountView(
          await openRestoreMount(deps, {
            backup: body.backup_id,
            diskIndex: body.disk ?? null,
            exposeAt: body.path ?? null,
            mode: body.mount_mode,
            passphrases: body.passphrases,
          }),
        ),
    }),
    defineRoute({
      method: 'get',
      path: '/restore/mounts',
      tag,
      summary: 'All open mounts',
      answer: z.object({ mounts: z.array(mountAnswer) }),
      handle: async () => ({ mounts: mounts.list().map(mountView) }),
    }),
    defineRoute({
      method: 'get',
      path: '/restore/{mount_id}/files',
      tag,
      summary: 'List a folder of a mount',
      params: mountParams,
      query: z.strictObject({ ...pathQuery, cursor: z.string().max(1024).optional(), limit }),
      answer: z.object({
        path: z.string(),
        files: z.array(
          z.looseObject({ name: z.string(), name_b64: z.string(), type: z.string(), size: z.number() }),
        ),
        next_cursor: z.string().nullable(),
      }),
      handle: async ({ params, query }) => {
        using hold = mounts.hold(params.mount_id);
        return await listFiles(hold.session.mount, guestPath(query), {
          cursor: query.cursor ?? null,
          limit: query.limit,
        });
      },
    }),
    defineRoute({
      method: 'get',
      path: '/restore/{mount_id}/download',
      tag,
      summary: 'Download a file (Range) or a folder (as an archive)',
      params: mountParams,
      query: z.strictObject({ ...pathQuery, format: z.enum(['tar', 'tar.gz', 'tar.zst']).optional() }),
      answer: z.unknown(),
      handle: async ({ params, query, request, response }) => {
        using hold = mounts.hold(params.mount_id);
        const download = await openDownload(hold.session.mount, guestPath(query));
        await using _opened = download;
        const data = { backup_id: hold.session.backupId, mount_id: params.mount_id, path: query.path };
        catalog.events.add({
          kind: 'restore.download',
          severity: 'info',
          subject: hold.session.backupId,
          message: `Download of ${query.path} from ${hold.session.backupId}.`,
          data,
        });
        if (download.kind === 'file') await sendFile(download, request, response);
        else await sendFolder(download, query.format ?? 'tar.zst', response);
        return streamed;
      },
    }),
    defineRoute({
      method: 'delete',
      path: '/restore/{mount_id}',
      tag,
      status: 204,
      summary: 'Unmount',
      params: mountParams,
      answer: z.null(),
      handle: async ({ params }) => mounts.close(params.mount_id),
    }),
  ];
}

/** Always a download, never a page: what comes out of a guest must not run in an operator's browser. */
function attachment(response: Response, name: string): void {
  const encoded = encodeURIComponent(name).replace(
    /['()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  );
  response.set({
    'Content-Disposition': `attachment; filename*=UTF-8''${encoded}`,
    'Content-Type': 'application/octet-stream',
    'Content-Security-Policy': 'sandbox',
  });
}

async function sendFile(download: FileDownload, request: Request, response: Response): Promise<void> {
  attachment(response, download.name);
  response.set({
    ETag: download.etag,
    'Accept-Ranges': 'bytes',
    'Last-Modified': new Date(download.mtime).toUTCString(),
    'X-Sendense-Mode': download.mode.toString(8),
    'X-Sendense-Owner': `${download.uid}:${download.gid}`,
    'X-Sendense-Mtime': download.mtime,
    'X-Sendense-Kind': 'file',
  });
  const ifRange = request.get('If-Range');
  const range =
    ifRange === undefined || ifRange === download.etag
      ? parseRangeOrSay(request, response, download.size)
      : null;
  if (request.get('If-None-Match') === download.etag) {
    response.status(304).end();
    return;
  }
  const { start, end } = range ?? { start: 0, end: download.size - 1 };
  if (range) response.status(206).set('Content-Range', `bytes ${start}-${end}/${download.size}`);
  response.set('Content-Length', String(end - start + 1));
  await pipeTo(download.stream(start, end), response);
}

function parseRangeOrSay(request: Request, response: Response, size: number) {
  try {
    return parseRange(request.get('Range'), size);
  } catch (error) {
    if (hasCode(error, 'RANGE_INVALID')) response.set('Content-Range', `bytes */${size}`);
    throw error;
  }
}

async function sendFolder(
  download: DirectoryDownload,
  format: 'tar' | 'tar.gz' | 'tar.zst',
  response: Response,
): Promise<void> {
  attachment(response, `${download.name}.${format}`);
  response.set('X-Sendense-Kind', 'directory');
  const aborter = new AbortController();
  response.on('close', () => aborter.abort());
  await pipeTo(download.archive(format, aborter.signal), response);
}

async function pipeTo(stream: NodeJS.ReadableStream, response: Response): Promise<void> {
  try {
    await pipeline(stream, response);
  } catch (error) {
    // a client that goes away is no failure of ours
    if (response.destroyed && !response.writableEnded) return;
    throw error instanceof SendenseError
      ? error
      : new SendenseError('MOUNT_FAILED', { detail: String(error) }, error);
  }
}
