import { lstat, readlink } from 'node:fs/promises';
import pLimit from 'p-limit';
import { SendenseError } from '../../base/sendense-error.ts';
import { firstIndexAfter, sortedNames } from './directory-names.ts';
import { type FileType, fileTypeOf, isoTime } from './file-type.ts';
import type { GuestNode } from './guest-node.ts';
import { displayPath, type GuestPath } from './guest-path.ts';
import { asPathError } from './guest-root.ts';
import { type BrowsableMount, locatePath } from './locate-path.ts';

/** Requests to the kernel at a time for one listing; Node's pool has four threads. */
const STAT_CONCURRENCY = 8;

export interface ListedFile {
  /** For people: bytes that are not UTF-8 are shown as U+FFFD. */
  readonly name: string;
  /** The exact name, base64. */
  readonly nameB64: string;
  readonly type: FileType;
  readonly size: number;
  /** Permission bits only. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** ISO 8601, UTC. */
  readonly mtime: string;
  /** Of a symlink: what it says, never followed. */
  readonly target?: string;
}

export interface FileListing {
  readonly path: string;
  readonly files: readonly ListedFile[];
  /** Null: this was the last page. */
  readonly nextCursor: string | null;
}

export interface ListingPage {
  /** From the page before; null for the first. */
  readonly cursor: string | null;
  readonly limit: number;
}

/**
 * Lists a folder of a mount, sorted by the bytes of the names.
 * @throws PATH_UNKNOWN, PATH_AMBIGUOUS, PATH_INVALID, PATH_WRONG_TYPE when it is not a folder, MOUNT_FAILED
 */
export async function listFiles(
  mount: BrowsableMount,
  path: GuestPath,
  page: ListingPage,
): Promise<FileListing> {
  const located = await locatePath(mount, path);
  if (located.kind === 'keys') {
    const keys = new Map(located.filesystems.map((filesystem) => [filesystem.key, filesystem.mountPath]));
    return await listPage(path, [...keys.keys()].toSorted(), page, (name) => keys.get(name.toString()) ?? '');
  }
  await using node = located.node;
  try {
    const names = await namesIn(mount, node, path);
    return await listPage(path, names, page, (name) => node.child(name));
  } catch (error) {
    throw asPathError(error, path);
  }
}

async function namesIn(mount: BrowsableMount, node: GuestNode, path: GuestPath): Promise<readonly string[]> {
  const actual = fileTypeOf(node.stat);
  if (actual !== 'directory')
    throw new SendenseError('PATH_WRONG_TYPE', { path: displayPath(path), actual, expected: 'a folder' });
  return await sortedNames(mount, node);
}

async function listPage(
  path: GuestPath,
  names: readonly string[],
  page: ListingPage,
  placeOf: (name: Buffer) => string | Buffer,
): Promise<FileListing> {
  const start =
    page.cursor === null
      ? 0
      : firstIndexAfter(names, Buffer.from(page.cursor, 'base64url').toString('latin1'));
  const chosen = names.slice(start, start + page.limit).map((name) => Buffer.from(name, 'latin1'));
  const atOnce = pLimit(STAT_CONCURRENCY);
  const files = await Promise.all(chosen.map((name) => atOnce(() => describe(name, placeOf(name)))));
  const last = chosen.at(-1);
  const isEnd = last === undefined || start + chosen.length >= names.length;
  return { path: displayPath(path), files, nextCursor: isEnd ? null : last.toString('base64url') };
}

/** @param place a path that leads to it and nowhere else; it is not followed */
export async function describe(name: Buffer, place: string | Buffer): Promise<ListedFile> {
  const names = { name: name.toString(), nameB64: name.toString('base64') };
  // one damaged inode must not hide the rest of its folder
  const stat = await lstat(place).catch(() => null);
  if (stat === null) return { ...names, type: 'other', size: 0, mode: 0, uid: 0, gid: 0, mtime: isoTime(0) };
  const target = stat.isSymbolicLink()
    ? await readlink(place, { encoding: 'buffer' }).catch(() => null)
    : null;
  return {
    ...names,
    type: fileTypeOf(stat),
    size: stat.size,
    mode: stat.mode & 0o7777,
    uid: stat.uid,
    gid: stat.gid,
    mtime: isoTime(stat.mtimeMs),
    ...(target === null ? {} : { target: target.toString() }),
  };
}
