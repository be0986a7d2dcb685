import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf, SendenseError } from '../base/sendense-error.ts';
import { manifestDocument } from './documents.ts';
import { layout } from './layout.ts';
import { removeEntombed } from './publish-backup.ts';
import { readDocument } from './read-document.ts';

/**
 * Ends deletions that a crash interrupted: every tombstone's files are removed.
 * @returns ids of the backups whose deletion was finished
 */
export async function finishDeletions(root: string): Promise<string[]> {
  const finished: string[] = [];
  for (const vmUuid of await readdir(root)) {
    const folder = layout.backupsFolder(root, vmUuid);
    const names = await readdir(folder).catch((error: unknown) => {
      if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return [];
      throw error;
    });
    for (const name of names.filter((candidate) => candidate.endsWith('.deleted'))) {
      const manifest = await readDocument(join(folder, name), manifestDocument).catch((error: unknown) => {
        // a tombstone that cannot be read is left for a person to look at
        if (error instanceof SendenseError) return null;
        throw error;
      });
      if (manifest === null || manifest.vm_uuid !== vmUuid || `${manifest.backup_id}.deleted` !== name)
        continue;
      await removeEntombed(root, manifest);
      finished.push(manifest.backup_id);
    }
  }
  return finished;
}
