import { access, constants, mkdir, readdir, statfs } from 'node:fs/promises';
import type { Clock } from '../base/clock.ts';
import { writeJsonDurably } from '../base/durable-file.ts';
import { newUuid } from '../base/ids.ts';
import { errnoOf, messageOf, SendenseError } from '../base/sendense-error.ts';
import { REPOSITORY_FORMAT, type RepositoryDocument, repositoryDocument } from './documents.ts';
import { layout } from './layout.ts';
import { mountPointOf } from './mount-point.ts';
import { readDocument } from './read-document.ts';

/** A folder that holds backups. */
export interface Repository {
  readonly id: string;
  readonly name: string;
  /** Absolute path. */
  readonly root: string;
  /** The mount point on which it must lie; null: anywhere. */
  readonly mount: string | null;
}

/**
 * Looks at a folder that is to be a repository; an absent one is made.
 * @returns what it says of itself; null when it is empty and may become one
 * @throws REPOSITORY_UNAVAILABLE, FORMAT_INVALID, FORMAT_TOO_NEW
 */
export async function inspectFolder(root: string): Promise<RepositoryDocument | null> {
  try {
    await mkdir(root, { recursive: true, mode: 0o750 });
    await access(root, constants.R_OK | constants.W_OK | constants.X_OK);
    const document = await readRepositoryDocument(root);
    if (document) return document;
    const foreign = (await readdir(root)).filter(
      (entry) => entry !== 'lost+found' && !entry.endsWith('.tmp') && !entry.startsWith('.lock.'),
    );
    if (foreign.length === 0) return null;
    const some = foreign.slice(0, 3).join(', ');
    throw new SendenseError('REPOSITORY_UNAVAILABLE', {
      path: root,
      detail: `it holds other files (${some}) and no repository.json`,
    });
  } catch (error) {
    throw unavailable(root, error);
  }
}

/** Makes an empty folder a repository. @throws REPOSITORY_UNAVAILABLE */
export async function createRepository(
  root: string,
  clock: Clock,
  ownMount: boolean,
): Promise<RepositoryDocument> {
  const created: RepositoryDocument = {
    format: REPOSITORY_FORMAT,
    repository_id: newUuid(),
    created_at: clock.now().toISOString(),
    own_mount: ownMount,
  };
  await writeRepositoryFile(root, created);
  return created;
}

/** @throws REPOSITORY_UNAVAILABLE */
export async function writeRepositoryFile(root: string, document: RepositoryDocument): Promise<void> {
  try {
    await writeJsonDurably(layout.repositoryFile(root), document);
  } catch (error) {
    throw unavailable(root, error);
  }
}

/**
 * Proves that the folder still is this repository and lies where it must: below an absent mount lies an empty folder,
 * or an old copy, and what is written there is lost to everybody.
 * @throws REPOSITORY_UNAVAILABLE, FORMAT_INVALID, FORMAT_TOO_NEW
 */
export async function confirmRepository(repository: Repository): Promise<void> {
  const { name, root, mount } = repository;
  const refuse = (detail: string) => new SendenseError('REPOSITORY_UNAVAILABLE', { path: root, detail });
  if (mount !== null) {
    const place = await mountPointOf(root);
    if (place !== mount && place.startsWith(mount === '/' ? mount : `${mount}/`))
      throw refuse(
        `it lies on the mount ${place} now, not on ${mount}; if that is meant: sendense-ctl repository add ${name} --path ${root} --mount ${place}`,
      );
    if (place !== mount) throw refuse(`nothing is mounted at ${mount}`);
  }
  const found = await readRepositoryDocument(root);
  if (found?.repository_id === repository.id) return;
  throw refuse(
    found === null
      ? 'there is no repository.json; is its file system mounted?'
      : 'another repository is there',
  );
}

/** The same, and that it can be written. To be asked before anything is changed. @throws as `confirmRepository` */
export async function confirmWritable(repository: Repository): Promise<void> {
  await confirmRepository(repository);
  const reason = await whyNotWritable(repository.root);
  if (reason !== null)
    throw new SendenseError('REPOSITORY_UNAVAILABLE', { path: repository.root, detail: reason });
}

/** Null when files can be made there. */
export async function whyNotWritable(root: string): Promise<string | null> {
  try {
    await access(root, constants.W_OK | constants.X_OK);
    return null;
  } catch (error) {
    return errnoOf(error) === 'EROFS' ? 'its file system is read-only' : messageOf(error);
  }
}

export type Compression = 'none' | 'zstd';

/** Whether layers are compressed some time after they were sealed. @throws REPOSITORY_UNAVAILABLE, FORMAT_… */
export async function compressionOf({ root }: Pick<Repository, 'root'>): Promise<Compression> {
  return (await readRepositoryDocument(root))?.compression ?? 'none';
}

/** What is compressed already stays so. @throws as `confirmWritable` */
export async function writeCompression(repository: Repository, compression: Compression): Promise<void> {
  await confirmWritable(repository);
  const document = await readRepositoryDocument(repository.root);
  if (document) await writeRepositoryFile(repository.root, { ...document, compression });
}

/** Null when there is none. @throws REPOSITORY_UNAVAILABLE, FORMAT_INVALID, FORMAT_TOO_NEW */
export async function readRepositoryDocument(root: string): Promise<RepositoryDocument | null> {
  try {
    return await readDocument(layout.repositoryFile(root), repositoryDocument);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return null;
    throw unavailable(root, error);
  }
}

const unavailable = (root: string, error: unknown): SendenseError =>
  error instanceof SendenseError
    ? error
    : new SendenseError('REPOSITORY_UNAVAILABLE', { path: root, detail: messageOf(error) }, error);

/** @returns bytes of the file system below the repository */
export async function repositorySpace(root: string): Promise<{ totalBytes: number; availableBytes: number }> {
  const info = await statfs(root);
  return { totalBytes: info.blocks * info.bsize, availableBytes: info.bavail * info.bsize };
}
