import { lstat, mkdir, open, rm, truncate } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { renameDurably, syncFile, syncFolder } from '../../base/durable-file.ts';
import { errnoOf, hasCode, messageOf, SendenseError } from '../../base/sendense-error.ts';
import { readOnlyChain } from '../../qemu/block-graph.ts';
import { checkLayer, convertImage, createLayer, repairLeaks } from '../../qemu/qemu-img.ts';
import { checkOutputPath } from '../output-path.ts';
import { checkFits } from './free-space.ts';
import {
  isSameWork,
  journalPath,
  PARTIAL_SUFFIX,
  type RestoreJournal,
  readJournal,
  removeJournal,
  writeJournal,
} from './restore-journal.ts';
import type { RestoreDiskRequest, RestoreOutcome, RestoreTools } from './restore-request.ts';
import { targetNode, type WholeDiskTarget } from './target.ts';
import { writeSegments } from './write-segments.ts';

type FileTarget = WholeDiskTarget & { readonly kind: 'file' };

/** Makes a new file. Raw and qcow2 can be gone on with after an interruption; the others are always begun anew. */
export async function writeFile(
  tools: RestoreTools,
  request: RestoreDiskRequest,
  target: FileTarget,
  sizeBytes: number,
): Promise<RestoreOutcome> {
  const { path } = target;
  try {
    return isResumable(request.format)
      ? await writeResumable(tools, request, request.format, target, sizeBytes)
      : await writeAtOnce(request, path, sizeBytes);
  } catch (error) {
    if (!staysAfter(error, request)) await removePartial(path);
    if (errnoOf(error) === 'ENOSPC') throw new SendenseError('DISK_FULL', { path: request.output }, error);
    throw error;
  }
}

const isResumable = (format: string): format is 'raw' | 'qcow2' => format === 'raw' || format === 'qcow2';

/**
 * A restore that broke off for a reason that goes away can be gone on with; one that was cancelled, or whose restore
 * point cannot be read, leaves nothing unless that was asked for.
 */
function staysAfter(error: unknown, request: RestoreDiskRequest): boolean {
  if (!isResumable(request.format)) return false;
  if (request.signal.aborted) return request.keepPartial || hasCode(request.signal.reason, 'INTERRUPTED');
  return errnoOf(error) === 'ENOSPC' || hasCode(error, 'TOOL_FAILED', 'DISK_FULL', 'RESUME_NOTHING');
}

/** What an interrupted restore left beside its output; absent is fine. */
export async function removePartial(output: string): Promise<void> {
  await rm(`${output}${PARTIAL_SUFFIX}`, { recursive: true, force: true });
  await removeJournal(journalPath.ofPartial(output));
}

/** The identity of the file that a journal speaks of; null when it is gone or no ordinary file. */
async function identityOf(partial: string): Promise<string | null> {
  const stats = await lstat(partial, { bigint: true }).catch(() => null);
  return stats?.isFile() ? `${stats.dev}:${stats.ino}` : null;
}

async function writeResumable(
  tools: RestoreTools,
  request: RestoreDiskRequest,
  format: 'raw' | 'qcow2',
  target: FileTarget,
  sizeBytes: number,
): Promise<RestoreOutcome> {
  const { path } = target;
  const { point, signal } = request;
  const partial = `${path}${PARTIAL_SUFFIX}`;
  const journalFile = journalPath.ofPartial(path);
  const work = async (doneBytes: number): Promise<RestoreJournal> => ({
    format: 1,
    point: point.key,
    backup_id: point.backupId,
    disk_index: point.diskIndex,
    target: path,
    target_identity: (await identityOf(partial)) ?? '',
    image_format: format,
    size_bytes: sizeBytes,
    mode: 'whole',
    done_bytes: doneBytes,
  });
  const found = request.resume === 'never' ? null : await usableJournal(journalFile, await work(0), partial);
  if (found === null && request.resume === 'required')
    throw new SendenseError('RESUME_NOTHING', { target: path });
  const used = found === null ? 0 : (await lstat(partial)).blocks * 512;
  await checkFits(dirname(path), point.chain, used);
  if (found === null) {
    await removePartial(path);
    await createPartial(partial, request.output);
    if (format === 'raw') await truncate(partial, sizeBytes);
    else await createLayer(partial, sizeBytes, null);
    await writeJournal(journalFile, await work(0));
  }
  const source = readOnlyChain(point.chain);
  if (source === null) throw new SendenseError('INTERNAL', { detail: 'a chain without layers' });
  const fromBytes = found?.done_bytes ?? 0;
  await writeSegments({
    source,
    target: targetNode(target, format, partial),
    sizeBytes,
    fromBytes,
    segmentBytes: tools.segmentBytes,
    targetIsZero: true,
    isResumed: found !== null,
    onSegment: async (doneBytes) => {
      await syncFile(partial);
      // at the end the name itself says that it is done
      if (doneBytes < sizeBytes) await writeJournal(journalFile, await work(doneBytes));
    },
    onProgress: (processedBytes) =>
      request.onProgress({
        processedBytes,
        readBytes: processedBytes,
        writtenBytes: processedBytes - fromBytes,
      }),
    signal,
  });
  await finish(request, partial, path);
  await removeJournal(journalFile);
  return { resumedAtBytes: found === null ? null : fromBytes, comparedBytes: null, changedBytes: null };
}

/** The journal of the very same work whose partial file is as it was left. */
async function usableJournal(
  journalFile: string,
  wanted: RestoreJournal,
  partial: string,
): Promise<RestoreJournal | null> {
  const journal = await readJournal(journalFile);
  if (journal === null || wanted.target_identity === '' || !isSameWork(journal, wanted)) return null;
  if (journal.image_format === 'raw')
    return (await lstat(partial)).size === journal.size_bytes ? journal : null;
  // a killed writer leaves clusters that nobody refers to, and nothing worse
  await repairLeaks(partial).catch(() => undefined);
  const check = await checkLayer(partial).catch(() => null);
  return check?.clean ? journal : null;
}

async function finish(request: RestoreDiskRequest, from: string, path: string): Promise<void> {
  if (request.signal.aborted) throw new SendenseError('CANCELLED');
  // it may have been made by somebody else meanwhile
  await checkOutputPath(request.output, { overwrite: request.overwrite, forbidden: request.forbidden });
  await renameDurably(from, path);
}

/** Made by us and not by qemu-img: readable by nobody else, and never through a symlink that was put there. */
async function createPartial(partial: string, output: string): Promise<void> {
  try {
    await using _created = await open(partial, 'wx', 0o600);
  } catch (error) {
    if (errnoOf(error) === 'ENOSPC') throw error;
    throw new SendenseError('OUTPUT_INVALID', { path: output, detail: messageOf(error) }, error);
  }
}

/** Formats that only qemu-img writes, in a folder of its own: a vmdk names its file in its header. */
async function writeAtOnce(
  request: RestoreDiskRequest,
  path: string,
  sizeBytes: number,
): Promise<RestoreOutcome> {
  const { point, format, signal } = request;
  const partialFolder = `${path}${PARTIAL_SUFFIX}`;
  if (request.resume === 'required') throw new SendenseError('RESUME_NOTHING', { target: path });
  await checkFits(dirname(path), point.chain, 0);
  await removePartial(path);
  await mkdir(partialFolder, { mode: 0o700 });
  const file = join(partialFolder, basename(path));
  await createPartial(file, request.output);
  const source = readOnlyChain(point.chain);
  if (source === null) throw new SendenseError('INTERNAL', { detail: 'a chain without layers' });
  await convertImage({
    source,
    target: file,
    format,
    onProgress: (fraction) => {
      const processedBytes = Math.round(fraction * sizeBytes);
      request.onProgress({ processedBytes, readBytes: processedBytes, writtenBytes: processedBytes });
    },
    signal,
  });
  await syncFile(file);
  await finish(request, file, path);
  await rm(partialFolder, { recursive: true, force: true });
  await syncFolder(dirname(path));
  return { resumedAtBytes: null, comparedBytes: null, changedBytes: null };
}
