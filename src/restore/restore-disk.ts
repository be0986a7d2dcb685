import { open, rm } from 'node:fs/promises';
import { renameDurably, syncFile } from '../base/durable-file.ts';
import { errnoOf, hasCode, messageOf, SendenseError } from '../base/sendense-error.ts';
import { readOnlyChain } from '../qemu/block-graph.ts';
import { convertImage, type OutputFormat } from '../qemu/qemu-img.ts';
import { readChainSize } from './disk/chain-size.ts';
import { checkOutputPath } from './output-path.ts';

/** Ending of a file that is not finished; nobody takes it for a disk. */
export const PARTIAL_SUFFIX = '.sendense-partial';

export interface RestoreDiskRequest {
  /** Absolute paths, newest layer first, the full last. */
  readonly chain: readonly string[];
  /** Absolute path of the file to make, in an existing folder. */
  readonly output: string;
  readonly format: OutputFormat;
  readonly overwrite: boolean;
  /** Folders and files that must not be written: repositories, the home, disks that are backed up. */
  readonly forbidden: readonly string[];
  /** Called with 0…1. */
  readonly onProgress: (fraction: number) => void;
  readonly signal: AbortSignal;
}

/** Outputs being written by this process. */
const inProgress = new Set<string>();

/**
 * Writes the disk of a restore point to a file, which appears under its name only when it is whole and on disk.
 * @throws OUTPUT_INVALID, OUTPUT_EXISTS, LAYER_REFUSED, CHAIN_PARENT_MISSING, DISK_FULL, CANCELLED, TOOL_FAILED
 */
export async function restoreDisk(request: RestoreDiskRequest): Promise<void> {
  const { output, overwrite, forbidden } = request;
  const path = await checkOutputPath(output, { overwrite, forbidden });
  await readChainSize(request.chain);
  if (inProgress.has(path))
    throw new SendenseError('OUTPUT_INVALID', { path: output, detail: 'another restore is writing it' });
  inProgress.add(path);
  const partial = `${path}${PARTIAL_SUFFIX}`;
  try {
    await createPartial(partial, output);
    await convert(request, partial);
    await syncFile(partial);
    if (request.signal.aborted) throw new SendenseError('CANCELLED');
    // it may have been made by somebody else meanwhile
    await checkOutputPath(output, { overwrite, forbidden });
    await renameDurably(partial, path);
  } catch (error) {
    await rm(partial, { force: true });
    if (errnoOf(error) === 'ENOSPC') throw new SendenseError('DISK_FULL', { path: output }, error);
    throw error;
  } finally {
    inProgress.delete(path);
  }
}

/** Made by us and not by qemu-img: readable by nobody else, and never through a symlink that was put there. */
async function createPartial(partial: string, output: string): Promise<void> {
  await rm(partial, { force: true });
  try {
    await using _created = await open(partial, 'wx', 0o600);
  } catch (error) {
    if (errnoOf(error) === 'ENOSPC') throw error;
    throw new SendenseError('OUTPUT_INVALID', { path: output, detail: messageOf(error) }, error);
  }
}

async function convert(request: RestoreDiskRequest, target: string): Promise<void> {
  const source = readOnlyChain(request.chain);
  if (source === null) throw new SendenseError('INTERNAL', { detail: 'a chain without layers' });
  const { format, onProgress, signal } = request;
  try {
    await convertImage({ source, target, format, onProgress, signal });
  } catch (error) {
    if (
      !hasCode(error, 'TOOL_FAILED') ||
      !/No space left on device|Disk quota exceeded/.test(messageOf(error))
    )
      throw error;
    throw new SendenseError('DISK_FULL', { path: request.output }, error);
  }
}
