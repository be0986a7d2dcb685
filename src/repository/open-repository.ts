import { access, constants, mkdir, readdir, statfs } from 'node:fs/promises';
import type { Clock } from '../base/clock.ts';
import { writeJsonDurably } from '../base/durable-file.ts';
import { newUuid } from '../base/ids.ts';
import { errnoOf, messageOf, SendenseError } from '../base/sendense-error.ts';
import { REPOSITORY_FORMAT, type RepositoryDocument, repositoryDocument } from './documents.ts';
import { layout } from './layout.ts';
import { readDocument } from './read-document.ts';

/** A folder that holds backups. */
export interface Repository {
  readonly id: string;
  readonly name: string;
  /** Absolute path. */
  readonly root: string;
  /** What happens to layers some time after they were sealed. */
  readonly compression: Compression;
}

export type Compression = 'none' | 'zstd';

/**
 * Opens a repository; an empty or absent folder becomes one, unless a certain repository is expected there.
 * @param expectedId null: whatever is there, also a new one
 * @throws REPOSITORY_UNAVAILABLE, FORMAT_INVALID, FORMAT_TOO_NEW
 */
export async function openRepository(
  name: string,
  root: string,
  clock: Clock,
  expectedId: string | null,
): Promise<Repository> {
  if (expectedId !== null) {
    const { compression } = await confirmRepository({ id: expectedId, root });
    return { id: expectedId, name, root, compression: compression ?? 'none' };
  }
  try {
    await mkdir(root, { recursive: true, mode: 0o750 });
    await access(root, constants.R_OK | constants.W_OK | constants.X_OK);
    const document = await readRepositoryDocument(root);
    if (document)
      return { id: document.repository_id, name, root, compression: document.compression ?? 'none' };
    const foreign = (await readdir(root)).filter(
      (entry) => entry !== 'lost+found' && !entry.endsWith('.tmp'),
    );
    if (foreign.length > 0) {
      throw new SendenseError('REPOSITORY_UNAVAILABLE', {
        path: root,
        detail: `it holds other files (${foreign.slice(0, 3).join(', ')}) and no repository.json`,
      });
    }
    const created: RepositoryDocument = {
      format: REPOSITORY_FORMAT,
      repository_id: newUuid(),
      created_at: clock.now().toISOString(),
    };
    await writeJsonDurably(layout.repositoryFile(root), created);
    return { id: created.repository_id, name, root, compression: 'none' };
  } catch (error) {
    if (error instanceof SendenseError) throw error;
    throw new SendenseError('REPOSITORY_UNAVAILABLE', { path: root, detail: messageOf(error) }, error);
  }
}

/**
 * Proves that the folder still is this repository: below an absent mount lies an empty folder, and what is written
 * there is lost to everybody.
 * @throws REPOSITORY_UNAVAILABLE, FORMAT_INVALID, FORMAT_TOO_NEW
 */
export async function confirmRepository(
  repository: Pick<Repository, 'id' | 'root'>,
): Promise<RepositoryDocument> {
  const found = await readRepositoryDocument(repository.root);
  if (found?.repository_id === repository.id) return found;
  const detail =
    found === null
      ? 'there is no repository.json; is its file system mounted?'
      : 'another repository is there';
  throw new SendenseError('REPOSITORY_UNAVAILABLE', { path: repository.root, detail });
}

/** Writes whether layers are compressed; what is compressed already stays so. @throws as `confirmRepository` */
export async function writeCompression(repository: Repository, compression: Compression): Promise<void> {
  const document = await confirmRepository(repository);
  await writeJsonDurably(layout.repositoryFile(repository.root), { ...document, compression });
}

/** Null when there is none. @throws REPOSITORY_UNAVAILABLE, FORMAT_INVALID, FORMAT_TOO_NEW */
export async function readRepositoryDocument(root: string): Promise<RepositoryDocument | null> {
  try {
    return await readDocument(layout.repositoryFile(root), repositoryDocument);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return null;
    if (error instanceof SendenseError) throw error;
    throw new SendenseError('REPOSITORY_UNAVAILABLE', { path: root, detail: messageOf(error) }, error);
  }
}

/** @returns bytes of the file system below the repository */
export async function repositorySpace(root: string): Promise<{ totalBytes: number; availableBytes: number }> {
  const info = await statfs(root);
  return { totalBytes: info.blocks * info.bsize, availableBytes: info.bavail * info.bsize };
}
