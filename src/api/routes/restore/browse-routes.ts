import type { Request, Response } from 'express';
import { z } from 'zod';
import { SendenseError } from '../../../base/sendense-error.ts';
import type { Catalog } from '../../../catalog/catalog.ts';
import { archiveFormats } from '../../../restore/browse/archive/archive-format.ts';
import { openDownload } from '../../../restore/browse/download.ts';
import { displayPath, type GuestPath } from '../../../restore/browse/guest-path.ts';
import { listFiles } from '../../../restore/browse/list-files.ts';
import { searchFiles } from '../../../restore/browse/search/search-files.ts';
import { statFile } from '../../../restore/browse/stat-file.ts';
import type { DownloadLimits } from '../../../restore/browse/transfer/download-limits.ts';
import type { MountRegistry } from '../../../restore/mount/mount-registry.ts';
import { defineRoute, type Route, streamed } from '../../route.ts';
import { flag, id, limit, queryNumber } from '../../schemas.ts';
import { type DownloadOutcome, sendArchive, sendFile } from '../../send-download.ts';

interface BrowseDeps {
  readonly catalog: Catalog;
  readonly mounts: MountRegistry;
  readonly downloads: DownloadLimits;
}

const tag = 'restore';
/** Most that one request searches, milliseconds: short enough for any proxy, and a client that is gone costs little. */
const SEARCH_TIME_LIMIT_MS = 2000;
const MAX_PREVIEW_BYTES = 65_536;
const mountParams = z.object({ mount_id: id });
/** A path as text, or its exact bytes in base64 for names that are no UTF-8. */
const pathQuery = { path: z.string().max(4096).default('/'), path_b64: z.base64().max(8192).optional() };
const guestPath = (query: { path: string; path_b64?: string | undefined }) =>
  query.path_b64 === undefined ? query.path : Buffer.from(query.path_b64, 'base64');
const listedFile = z.looseObject({
  name: z.string(),
  name_b64: z.string(),
  type: z.string(),
  size: z.number(),
});

/** Looking into mounts and taking files out of them. */
export function browseRoutes({ catalog, mounts, downloads }: BrowseDeps): Route[] {
  return [
    defineRoute({
      method: 'get',
      path: '/restore/{mount_id}/files',
      tag,
      summary: 'List a folder of a mount',
      access: { role: 'restore', about: ['mount_id'] },
      params: mountParams,
      query: z.strictObject({ ...pathQuery, cursor: z.string().max(1024).optional(), limit }),
      answer: z.object({
        path: z.string(),
        files: z.array(listedFile),
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
      path: '/restore/{mount_id}/search',
      tag,
      summary: 'Find names below a folder of a mount',
      access: { role: 'restore', about: ['mount_id'] },
      params: mountParams,
      query: z.strictObject({
        ...pathQuery,
        pattern: z.string().min(1).max(255),
        ignore_case: flag,
        cursor: z.string().max(8192).optional(),
        limit,
      }),
      answer: z.object({
        path: z.string(),
        pattern: z.string(),
        files: z.array(listedFile.extend({ path: z.string(), path_b64: z.string() })),
        examined: z.number(),
        skipped: z.number(),
        skipped_examples: z.array(z.string()),
        next_cursor: z.string().nullable(),
      }),
      handle: async ({ params, query, response }) => {
        using hold = mounts.hold(params.mount_id);
        const gone = new AbortController();
        response.once('close', () => gone.abort());
        return await searchFiles(hold.session.mount, guestPath(query), {
          pattern: query.pattern,
          ignoreCase: query.ignore_case,
          cursor: query.cursor ?? null,
          limit: query.limit,
          timeLimitMs: SEARCH_TIME_LIMIT_MS,
          signal: gone.signal,
        });
      },
    }),
    defineRoute({
      method: 'get',
      path: '/restore/{mount_id}/stat',
      tag,
      summary: 'All about one file of a mount, and how it begins',
      access: { role: 'restore', about: ['mount_id'] },
      params: mountParams,
      query: z.strictObject({
        ...pathQuery,
        follow: flag,
        preview: queryNumber(0, MAX_PREVIEW_BYTES)
          .default(0)
          .meta({ override: { default: 0 } }),
      }),
      answer: listedFile.extend({ path: z.string(), media_type: z.string().nullable() }),
      handle: async ({ params, query }) => {
        using hold = mounts.hold(params.mount_id);
        const options = { follow: query.follow, previewBytes: query.preview };
        return await statFile(hold.session.mount, guestPath(query), options);
      },
    }),
    defineRoute({
      method: 'get',
      path: '/restore/{mount_id}/download',
      tag,
      summary: 'Download a file (Range), or a file or folder as an archive',
      access: { role: 'restore', about: ['mount_id'] },
      params: mountParams,
      query: z.strictObject({ ...pathQuery, format: z.enum(archiveFormats).optional() }),
      answer: z.unknown(),
      handle: async ({ params, query, request, response }) => {
        using hold = mounts.hold(params.mount_id);
        using _place = request.method === 'HEAD' ? null : downloads.enter(params.mount_id);
        const path = guestPath(query);
        const download = await openDownload(hold.session.mount, path);
        await using _opened = download;
        const sending = { request, response, limits: downloads };
        const audit =
          request.method === 'HEAD' ? null : new DownloadAudit(catalog, hold.session, path, request);
        const outcome =
          download.kind === 'file' && query.format === undefined
            ? await sendFile(sending, download).catch((error: unknown) => refused(error, audit, response))
            : await sendArchive(sending, download, query.format ?? 'tar.zst');
        audit?.ended(outcome, response.statusCode);
        if (outcome.ended === 'failed' && !response.headersSent) throw outcome.error;
        return streamed;
      },
    }),
  ];
}

function refused(error: unknown, audit: DownloadAudit | null, response: Response): never {
  audit?.ended({ ended: 'failed', bytesSent: 0, error }, response.statusCode);
  throw error;
}

/** Two events for each download: one when it starts, in case nobody lives to see the end, and one at its end. */
class DownloadAudit {
  readonly #catalog: Catalog;
  readonly #backupId: string;
  readonly #path: string;
  readonly #data: Readonly<Record<string, unknown>>;
  readonly #startedMs = performance.now();

  constructor(
    catalog: Catalog,
    session: { readonly backupId: string; readonly mountId: string },
    path: GuestPath,
    request: Request,
  ) {
    this.#catalog = catalog;
    this.#backupId = session.backupId;
    this.#path = displayPath(path);
    this.#data = {
      backup_id: session.backupId,
      mount_id: session.mountId,
      path: this.#path,
      ...(typeof path === 'string' ? {} : { path_b64: path.toString('base64') }),
      // what the client says of itself: a unix socket has no address
      client: (request.get('User-Agent') ?? '').slice(0, 200),
      range: request.get('Range')?.slice(0, 100) ?? null,
      format: typeof request.query['format'] === 'string' ? request.query['format'] : null,
    };
    this.#add('restore.download', 'info', `Download of ${this.#path} from ${this.#backupId}.`, {});
  }

  ended({ ended, bytesSent, error }: DownloadOutcome, status: number): void {
    const message = `Download of ${this.#path} from ${this.#backupId}: ${ended} after ${bytesSent} bytes.`;
    this.#add('restore.download.ended', ended === 'failed' ? 'warning' : 'info', message, {
      ended,
      status,
      bytes_sent: bytesSent,
      duration_ms: Math.round(performance.now() - this.#startedMs),
      error: error instanceof SendenseError ? error.message : null,
    });
  }

  #add(kind: string, severity: 'info' | 'warning', message: string, more: Record<string, unknown>): void {
    this.#catalog.events.add({
      kind,
      severity,
      subject: this.#backupId,
      message,
      data: { ...this.#data, ...more },
    });
  }
}
