import { mkdir } from 'node:fs/promises';
import { SendenseError } from '../../base/sendense-error.ts';
import { readOnlyChain } from '../../qemu/block-graph.ts';
import { flushImage } from '../../qemu/qemu-img.ts';
import { holdBlockDevice } from './block-device.ts';
import { comparePart } from './compare-part.ts';
import {
  isSameWork,
  journalPath,
  type RestoreJournal,
  readJournal,
  removeJournal,
  writeJournal,
} from './restore-journal.ts';
import type { RestoreDiskRequest, RestoreOutcome, RestoreTools } from './restore-request.ts';
import { checkTargetSize, targetNode, type WholeDiskTarget } from './target.ts';
import { writeSegments } from './write-segments.ts';

export type InPlaceTarget = WholeDiskTarget & { readonly kind: 'device' | 'nbd' };

/**
 * Overwrites the beginning of a device or an export with the whole disk, zeros included; what lies behind the disk's
 * end is not touched. Such a target may have lost what it had not made durable, or may have been replaced: so what an
 * earlier try wrote is compared, not believed, and the rest is written.
 */
export async function writeInPlace(
  tools: RestoreTools,
  request: RestoreDiskRequest,
  target: InPlaceTarget,
  sizeBytes: number,
): Promise<RestoreOutcome> {
  const { point, signal } = request;
  checkTargetSize(target, sizeOf(target), sizeBytes);
  await using held = target.kind === 'device' ? await holdBlockDevice(target.device) : null;
  await mkdir(tools.stateFolder, { recursive: true, mode: 0o750 });
  const journalFile = journalPath.ofRemote(tools.stateFolder, target.path);
  const work = (doneBytes: number): RestoreJournal => ({
    format: 1,
    point: point.key,
    backup_id: point.backupId,
    disk_index: point.diskIndex,
    target: target.path,
    target_identity: identityOf(target),
    image_format: 'raw',
    size_bytes: sizeBytes,
    mode: 'whole',
    done_bytes: doneBytes,
  });
  const journal = request.resume === 'never' ? null : await readJournal(journalFile);
  const found = journal?.mode === 'whole' && isSameWork(journal, work(0)) ? journal : null;
  if (found === null && request.resume === 'required')
    throw new SendenseError('RESUME_NOTHING', { target: target.path });
  if (found === null) await writeJournal(journalFile, work(0));
  const fromBytes = found?.done_bytes ?? 0;
  const compared = await comparePart(tools, request, target, { sizeBytes, endBytes: fromBytes });
  const source = readOnlyChain(point.chain);
  if (source === null) throw new SendenseError('INTERNAL', { detail: 'a chain without layers' });
  const node = targetNode(target, 'raw');
  await writeSegments({
    source,
    target: node,
    sizeBytes,
    fromBytes,
    segmentBytes: tools.segmentBytes,
    targetIsZero: false,
    isResumed: found !== null,
    onSegment: async (doneBytes) => {
      if (held === null) await flushImage(node);
      else await held.sync();
      if (doneBytes < sizeBytes) await writeJournal(journalFile, work(doneBytes));
    },
    onProgress: (processedBytes) =>
      request.onProgress({
        processedBytes,
        readBytes: processedBytes,
        writtenBytes: processedBytes - fromBytes,
      }),
    signal,
  });
  if (signal.aborted) throw new SendenseError('CANCELLED');
  await removeJournal(journalFile);
  return {
    resumedAtBytes: found === null ? null : fromBytes,
    comparedBytes: found === null ? null : compared.processedBytes,
    changedBytes: found === null ? null : compared.writtenBytes,
  };
}

export const sizeOf = (target: InPlaceTarget): number =>
  target.kind === 'device' ? target.device.sizeBytes : target.sizeBytes;

export const identityOf = (target: InPlaceTarget): string =>
  `${target.kind === 'device' ? target.device.identity : 'nbd'}:${sizeOf(target)}`;
