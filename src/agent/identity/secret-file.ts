import { open, readFile, rename } from 'node:fs/promises';
import { dirname } from 'node:path';
import { syncFolder } from '../../base/durable-file.ts';
import { errnoOf } from '../../base/sendense-error.ts';

/** Writes what only the owner may read, whole or not at all; it is never readable to others in between. */
export async function writeSecretFile(path: string, content: string): Promise<void> {
  const temporary = `${path}.tmp`;
  {
    await using handle = await open(temporary, 'w', 0o600);
    // the file of an earlier try may have had other rights
    await handle.chmod(0o600);
    await handle.writeFile(content);
    await handle.sync();
  }
  await rename(temporary, path);
  await syncFolder(dirname(path));
}

/** @returns null when there is none */
export async function readIfThere(path: string): Promise<string | null> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null;
    throw error;
  }
}
