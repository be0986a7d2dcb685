import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { removeDurably, writeJsonDurably } from '../../base/durable-file.ts';

/** Ending of a file that is not finished; nobody takes it for a disk. */
export const PARTIAL_SUFFIX = '.sendense-partial';

const schema = z.object({
  format: z.literal(1),
  /** Says exactly whose bytes these are: see `pointKey`. */
  point: z.string(),
  backup_id: z.string(),
  disk_index: z.number(),
  target: z.string(),
  /** Tells the target from another of the same name. */
  target_identity: z.string(),
  image_format: z.string(),
  size_bytes: z.number(),
  /** `whole`: everything before `done_bytes` was written and flushed. `differential`: nothing is known. */
  mode: z.enum(['whole', 'differential']),
  done_bytes: z.number(),
});

/**
 * How far a restore has come. Written durably, and only after the data that it speaks of is flushed; it lies beside a
 * file, and in the daemon's state folder for a device or an export. As long as it is there its target is incomplete.
 */
export type RestoreJournal = z.infer<typeof schema>;

/** Where the journal of a target is kept. */
export const journalPath = {
  ofPartial: (output: string) => `${output}${PARTIAL_SUFFIX}.json`,
  ofFileInPlace: (path: string) => `${path}.sendense-incomplete.json`,
  ofRemote: (stateFolder: string, target: string) =>
    join(stateFolder, `${createHash('sha256').update(target).digest('hex').slice(0, 32)}.json`),
};

/** @returns null when there is none, or none that can be understood: the restore then begins anew */
export async function readJournal(path: string): Promise<RestoreJournal | null> {
  try {
    return schema.parse(JSON.parse(await readFile(path, 'utf8')));
  } catch {
    return null;
  }
}

export const writeJournal = (path: string, journal: RestoreJournal): Promise<void> =>
  writeJsonDurably(path, journal);

export const removeJournal = (path: string): Promise<void> => removeDurably(path);

/** Whether what a journal speaks of may be gone on with: the same bytes, to the same place, in the same form. */
export function isSameWork(journal: RestoreJournal, wanted: RestoreJournal): boolean {
  return (
    journal.point === wanted.point &&
    journal.disk_index === wanted.disk_index &&
    journal.target === wanted.target &&
    journal.target_identity === wanted.target_identity &&
    journal.image_format === wanted.image_format &&
    journal.size_bytes === wanted.size_bytes
  );
}
