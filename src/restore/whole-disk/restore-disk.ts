import { SendenseError } from '../../base/sendense-error.ts';
import { readChainSize } from '../disk/chain-size.ts';
import { patchTarget } from './patch-target.ts';
import type { RestoreDiskRequest, RestoreOutcome, RestoreTools } from './restore-request.ts';
import { resolveTarget } from './target.ts';
import { writeFile } from './write-file.ts';
import { writeInPlace } from './write-in-place.ts';

/**
 * Writes the disk of a restore point. A file appears under its name only when it is whole and on disk; a device, an
 * export or a differential target is incomplete until this returns.
 * @throws OUTPUT_…, RESUME_NOTHING, LAYER_REFUSED, CHAIN_PARENT_MISSING, DISK_FULL, TARGET_FAILED, CANCELLED, TOOL_FAILED
 */
export async function restoreDisk(tools: RestoreTools, request: RestoreDiskRequest): Promise<RestoreOutcome> {
  const { output, overwrite, forbidden, differential } = request;
  const target = await resolveTarget(output, { overwrite, forbidden, isInPlace: differential });
  const sizeBytes = await readChainSize(request.point.chain);
  const name = target.kind === 'file' ? target.path : output;
  if (target.kind !== 'file' && request.format !== 'raw')
    throw new SendenseError('OUTPUT_INVALID', {
      path: output,
      detail: `a ${target.kind === 'nbd' ? 'server' : 'device'} takes raw bytes only, no ${request.format}`,
    });
  if (inProgress.has(name))
    throw new SendenseError('OUTPUT_INVALID', { path: output, detail: 'another restore is writing it' });
  inProgress.add(name);
  try {
    if (differential) return await patchTarget(tools, request, target, sizeBytes);
    if (target.kind === 'file') return await writeFile(tools, request, target, sizeBytes);
    return await writeInPlace(tools, request, target, sizeBytes);
  } catch (error) {
    if (!(error instanceof SendenseError) || error.code !== 'TOOL_FAILED') throw error;
    const detail = String(error.fields['detail']);
    if (/No space left on device|Disk quota exceeded/.test(detail))
      throw new SendenseError('DISK_FULL', { path: output }, error);
    if (target.kind === 'file') throw error;
    throw new SendenseError('TARGET_FAILED', { target: output, detail }, error);
  } finally {
    inProgress.delete(name);
  }
}

/** Outputs being written by this process. */
const inProgress = new Set<string>();
