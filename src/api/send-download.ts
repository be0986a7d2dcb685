import { once } from 'node:events';
import type { Request, Response } from 'express';
import { errnoOf, hasCode, messageOf, SendenseError } from '../base/sendense-error.ts';
import type { ArchiveFormat } from '../restore/browse/archive/archive-format.ts';
import type { DirectoryDownload, FileDownload } from '../restore/browse/download.ts';
import { isNotModified, mayUseRange } from '../restore/browse/transfer/conditions.ts';
import { type DownloadLimits, PACED_BYTES } from '../restore/browse/transfer/download-limits.ts';
import { type ByteRange, parseRange } from '../restore/browse/transfer/range.ts';

/** How a download ended: `aborted` by the client. */
export interface DownloadOutcome {
  readonly ended: 'completed' | 'aborted' | 'failed';
  readonly bytesSent: number;
  readonly error: unknown;
}

interface Sending {
  readonly request: Request;
  readonly response: Response;
  readonly limits: DownloadLimits;
}

const nothingSent: DownloadOutcome = { ended: 'completed', bytesSent: 0, error: null };

/** Headers that speak of the file, and would lie about an error. */
const FILE_HEADERS = ['Content-Disposition', 'Content-Length', 'ETag', 'Last-Modified', 'Accept-Ranges'];

/** Always a download, never a page: what comes out of a guest must not run in an operator's browser. */
function attachment(response: Response, name: string, kind: 'file' | 'directory'): void {
  const encoded = encodeURIComponent(name.toWellFormed()).replace(
    /['()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  );
  response.set({
    'Content-Disposition': `attachment; filename*=UTF-8''${encoded}`,
    'Content-Type': 'application/octet-stream',
    'Content-Security-Policy': 'sandbox',
    'X-Sendense-Kind': kind,
  });
}

/**
 * Sends the bytes of a file, or those of the one range that is asked for.
 * @throws RANGE_INVALID
 */
export async function sendFile(sending: Sending, download: FileDownload): Promise<DownloadOutcome> {
  const { request, response } = sending;
  attachment(response, download.name, 'file');
  response.set({
    ETag: download.etag,
    'Accept-Ranges': 'bytes',
    'Last-Modified': new Date(download.mtime).toUTCString(),
    'X-Sendense-Mode': download.mode.toString(8),
    'X-Sendense-Owner': `${download.uid}:${download.gid}`,
    'X-Sendense-Mtime': download.mtime,
  });
  const headers = (name: string) => request.get(name);
  // RFC 9110 section 13.2.2: what the client has already is looked at before the range
  if (isNotModified(headers, download)) {
    response.status(304).end();
    return nothingSent;
  }
  const range = mayUseRange(headers, download) ? rangeOrSay(sending, download.size) : null;
  const { start, end } = range ?? { start: 0, end: download.size - 1 };
  if (range) response.status(206).set('Content-Range', `bytes ${start}-${end}/${download.size}`);
  response.set('Content-Length', String(end - start + 1));
  if (isHeadersOnly(sending)) return nothingSent;
  const pieces = download.pieces(start, end);
  return await send(sending, pieces, () => pieces.close());
}

/** A range means nothing to HEAD, RFC 9110 section 14.2. */
function rangeOrSay({ request, response }: Sending, size: number): ByteRange | null {
  if (request.method === 'HEAD') return null;
  try {
    return parseRange(request.get('Range'), size);
  } catch (error) {
    if (hasCode(error, 'RANGE_INVALID')) {
      clearFileHeaders(response);
      response.set('Content-Range', `bytes */${size}`);
    }
    throw error;
  }
}

/** Sends a folder, or a file with all its attributes, as an archive. */
export async function sendArchive(
  sending: Sending,
  download: FileDownload | DirectoryDownload,
  format: ArchiveFormat,
): Promise<DownloadOutcome> {
  const { response } = sending;
  attachment(response, `${download.name}.${format}`, download.kind);
  response.set('Accept-Ranges', 'none');
  if (isHeadersOnly(sending)) return nothingSent;
  const aborter = new AbortController();
  response.once('close', () => aborter.abort());
  const archive = await download.archive(format, aborter.signal);
  return await send(sending, archive, async () => void archive.destroy());
}

function isHeadersOnly({ request, response }: Sending): boolean {
  if (request.method !== 'HEAD') return false;
  response.end();
  return true;
}

/**
 * Sends what comes at the speed of the client and of the limits; of one piece the next is asked for when the one before
 * it has left. When it breaks after the first byte the connection is cut, so that no client takes a part for the whole;
 * before that, the error can still be the answer.
 */
async function send(
  { response, limits }: Sending,
  pieces: AsyncIterable<Buffer>,
  close: () => Promise<void>,
): Promise<DownloadOutcome> {
  const gone = new AbortController();
  const waiting = new Set<() => void>();
  response.once('close', () => {
    gone.abort();
    for (const goOn of waiting) goOn();
  });
  if (response.destroyed) gone.abort();
  /** Settles when a piece has gone to the system, or never will. */
  const written = (piece: Buffer): Promise<void> =>
    new Promise((resolve) => {
      const goOn = () => {
        waiting.delete(goOn);
        resolve();
      };
      waiting.add(goOn);
      response.write(piece, goOn);
    });
  let bytesSent = 0;
  let hasLeft = Promise.resolve();
  try {
    for await (const bytes of pieces) {
      const before = hasLeft;
      const step = limits.isPaced ? PACED_BYTES : bytes.length;
      for (let start = 0; start < bytes.length; start += step) {
        const piece = bytes.subarray(start, start + step);
        await limits.pace(piece.length, gone.signal);
        gone.signal.throwIfAborted();
        bytesSent += piece.length;
        hasLeft = written(piece);
      }
      await before;
    }
    gone.signal.throwIfAborted();
    response.end();
    await once(response, 'close');
    return response.writableFinished
      ? { ended: 'completed', bytesSent, error: null }
      : { ended: 'aborted', bytesSent, error: null };
  } catch (error) {
    await close();
    if (gone.signal.aborted) return { ended: 'aborted', bytesSent, error: null };
    if (response.headersSent) response.destroy();
    else clearFileHeaders(response);
    return { ended: 'failed', bytesSent, error: asFailure(error) };
  }
}

function clearFileHeaders(response: Response): void {
  for (const name of FILE_HEADERS) response.removeHeader(name);
  response.status(200);
  response.removeHeader('Content-Range');
}

const asFailure = (error: unknown): SendenseError =>
  error instanceof SendenseError
    ? error
    : new SendenseError(
        'MOUNT_FAILED',
        { detail: `reading failed with ${errnoOf(error) ?? messageOf(error)}` },
        error,
      );
