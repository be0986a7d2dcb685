import { lstat, mkdir, open } from 'node:fs/promises';
import { syncFile } from '../../base/durable-file.ts';
import { errnoOf, SendenseError } from '../../base/sendense-error.ts';
import { holdBlockDevice, loopOn } from './block-device.ts';
import { comparePart } from './compare-part.ts';
import { journalPath, type RestoreJournal, removeJournal, writeJournal } from './restore-journal.ts';
import type { RestoreDiskRequest, RestoreOutcome, RestoreTools } from './restore-request.ts';
import { checkTargetSize, type WholeDiskTarget } from './target.ts';
import { identityOf, sizeOf } from './write-in-place.ts';

/**
 * Brings an existing raw file, device or export to a restore point in place. From the first byte that is written to
 * the last, a journal marks the target as incomplete; doing it again is always right, whatever is there.
 */
export async function patchTarget(
  tools: RestoreTools,
  request: RestoreDiskRequest,
  target: WholeDiskTarget,
  sizeBytes: number,
): Promise<RestoreOutcome> {
  const { point, output } = request;
  if (request.format !== 'raw')
    throw new SendenseError('OUTPUT_INVALID', {
      path: output,
      detail: 'only raw bytes can be compared with a restore point in place',
    });
  checkTargetSize(target, target.kind === 'file' ? await fileSize(target.path) : sizeOf(target), sizeBytes);
  await using _held = target.kind === 'device' ? await holdBlockDevice(target.device) : null;
  if (target.kind !== 'file') await mkdir(tools.stateFolder, { recursive: true, mode: 0o750 });
  const journalFile =
    target.kind === 'file'
      ? journalPath.ofFileInPlace(target.path)
      : journalPath.ofRemote(tools.stateFolder, target.path);
  const journal: RestoreJournal = {
    format: 1,
    point: point.key,
    backup_id: point.backupId,
    disk_index: point.diskIndex,
    target: target.path,
    target_identity: target.kind === 'file' ? '' : identityOf(target),
    image_format: 'raw',
    size_bytes: sizeBytes,
    mode: 'differential',
    done_bytes: 0,
  };
  await writeJournal(journalFile, journal);
  const progress = await comparePart(tools, request, target, { sizeBytes, endBytes: sizeBytes });
  if (target.kind === 'file') await syncFile(target.path);
  await removeJournal(journalFile);
  return {
    resumedAtBytes: null,
    comparedBytes: progress.processedBytes,
    changedBytes: progress.writtenBytes,
  };
}

/** @throws OUTPUT_INVALID for what is no raw disk */
async function fileSize(path: string): Promise<number> {
  const stats = await lstat(path).catch((error: unknown) => {
    throw new SendenseError(
      'OUTPUT_INVALID',
      { path, detail: errnoOf(error) === 'ENOENT' ? 'there is nothing to compare with' : 'unreadable' },
      error,
    );
  });
  const loop = await loopOn(path);
  if (loop !== null) throw new SendenseError('OUTPUT_IN_USE', { path, detail: `${loop} is attached to it` });
  const kind = await imageKind(path);
  if (kind !== null)
    throw new SendenseError('OUTPUT_INVALID', { path, detail: `it is a ${kind} image and no raw disk` });
  return stats.size;
}

/** Bytes that begin an image whose guest bytes lie elsewhere in the file. */
const magics: Readonly<Record<string, string>> = { 'QFI\u00fb': 'qcow2', vhdx: 'vhdx', KDMV: 'vmdk' };

async function imageKind(path: string): Promise<string | null> {
  await using file = await open(path, 'r');
  const { buffer, bytesRead } = await file.read(Buffer.alloc(4), 0, 4, 0);
  return magics[buffer.toString('latin1', 0, bytesRead)] ?? null;
}
