import { run } from '../../base/process/run.ts';
import type { DiskSlice, SliceContent } from '../mount/mounted-filesystem.ts';
import { parsePartitionTable } from './partition-table.ts';

/** A slice and what was found at its start. */
export interface ProbedSlice extends DiskSlice {
  readonly content: SliceContent;
  /** Several signatures contradict each other: not to be guessed. */
  readonly isAmbivalent: boolean;
}

interface Probe {
  readonly content: SliceContent;
  readonly isAmbivalent: boolean;
  readonly hasPartitionTable: boolean;
}

/**
 * Finds partitions and file systems in user space; the kernel's own scan is missing on many machines.
 * @param path the whole disk, as a file or a block device
 * @throws TOOL_FAILED, TOOL_MISSING
 */
export async function probeDisk(path: string, sizeBytes: number): Promise<ProbedSlice[]> {
  const [table, whole] = await Promise.all([
    run('sfdisk', ['-J', path], { okExitCodes: [0, 1] }),
    blkid(path, 0, sizeBytes),
  ]);
  const slices = table.exitCode === 0 ? parsePartitionTable(table.stdout, sizeBytes) : [];
  // a boot sector of a file system can look like a partition table; blkid tells the two apart
  if (slices.length === 0 || (whole.content.fsType !== null && !whole.hasPartitionTable)) {
    return [
      {
        partitionNumber: null,
        offsetBytes: 0,
        sizeBytes,
        content: whole.content,
        isAmbivalent: whole.isAmbivalent,
      },
    ];
  }
  return await Promise.all(
    slices.map(async (slice) => {
      const { content, isAmbivalent } = await blkid(path, slice.offsetBytes, slice.sizeBytes);
      return { ...slice, content, isAmbivalent };
    }),
  );
}

/** Exit codes of blkid(8): 2 nothing found, 8 ambivalent. */
async function blkid(path: string, offsetBytes: number, sizeBytes: number): Promise<Probe> {
  const args = ['-p', '-o', 'export', '-O', String(offsetBytes), '-S', String(sizeBytes), path];
  const result = await run('blkid', args, { okExitCodes: [0, 2, 8] });
  const values = parseExport(result.stdout);
  return {
    content: {
      fsType: values.get('TYPE') ?? null,
      label: values.get('LABEL') ?? null,
      uuid: values.get('UUID') ?? null,
    },
    isAmbivalent: result.exitCode === 8,
    hasPartitionTable: values.has('PTTYPE'),
  };
}

/** `KEY=value` lines in which the shell's special characters are escaped with a backslash. */
export function parseExport(text: string): Map<string, string> {
  const values = new Map<string, string>();
  for (const line of text.split('\n')) {
    const equals = line.indexOf('=');
    if (equals > 0) values.set(line.slice(0, equals), line.slice(equals + 1).replace(/\\(.)/g, '$1'));
  }
  return values;
}
