import { SendenseError } from '../../../base/sendense-error.ts';
import { fileTypeOf } from '../file-type.ts';
import { displayPath, type GuestPath, joinGuestPath, splitGuestPath } from '../guest-path.ts';
import { asPathError } from '../guest-root.ts';
import { describe, type ListedFile } from '../list-files.ts';
import { type BrowsableMount, locatePath } from '../locate-path.ts';
import { namePattern } from './name-pattern.ts';
import { type WalkedEntry, walkTree } from './walk-tree.ts';

export interface FoundFile extends ListedFile {
  /** As asked for plus the way down; bytes that are not UTF-8 are shown as U+FFFD. */
  readonly path: string;
  /** The exact path, base64. */
  readonly pathB64: string;
}

export interface SearchResult {
  readonly path: string;
  readonly pattern: string;
  readonly files: readonly FoundFile[];
  /** How many names were looked at for this answer. */
  readonly examined: number;
  /** Folders that could not be looked into, in this answer; the first few are named. */
  readonly skipped: number;
  readonly skippedExamples: readonly string[];
  /** Null: everything was looked at. An answer may have one and no files: its time was over. */
  readonly nextCursor: string | null;
}

export interface SearchQuery {
  readonly pattern: string;
  readonly ignoreCase: boolean;
  readonly limit: number;
  /** From the answer before; null for the first. */
  readonly cursor: string | null;
  readonly timeLimitMs: number;
  /** The client has gone. */
  readonly signal: AbortSignal;
}

const SKIPPED_EXAMPLES = 5;

/** One answer under way. */
interface Search {
  readonly query: SearchQuery;
  readonly isMatch: (name: string) => boolean;
  readonly deadline: number;
  readonly files: FoundFile[];
  readonly skippedExamples: string[];
  examined: number;
  skipped: number;
}

/**
 * Looks for names below a folder, without following links and without leaving the mount, in the order of the bytes of
 * the names.
 * @throws PATH_UNKNOWN, PATH_AMBIGUOUS, PATH_INVALID, PATH_WRONG_TYPE when it is not a folder, REQUEST_INVALID, CANCELLED,
 *   MOUNT_FAILED
 */
export async function searchFiles(
  mount: BrowsableMount,
  path: GuestPath,
  query: SearchQuery,
): Promise<SearchResult> {
  const search: Search = {
    query,
    isMatch: namePattern(query.pattern, query.ignoreCase),
    deadline: performance.now() + query.timeLimitMs,
    files: [],
    skippedExamples: [],
    examined: 0,
    skipped: 0,
  };
  const after = query.cursor === null ? [] : namesOf(query.cursor);
  const stoppedAt = await searchBelow(search, mount, path, after);
  const { files, examined, skipped, skippedExamples } = search;
  const nextCursor = stoppedAt === null ? null : cursorOf(stoppedAt);
  return {
    path: displayPath(path),
    pattern: query.pattern,
    files,
    examined,
    skipped,
    skippedExamples,
    nextCursor,
  };
}

/** @returns the entry at which it stopped, or null at the end */
async function searchBelow(
  search: Search,
  mount: BrowsableMount,
  path: GuestPath,
  after: readonly string[],
): Promise<readonly string[] | null> {
  const located = await locatePath(mount, path);
  if (located.kind === 'node') {
    await using node = located.node;
    const actual = fileTypeOf(node.stat);
    if (actual !== 'directory')
      throw new SendenseError('PATH_WRONG_TYPE', { path: displayPath(path), actual, expected: 'a folder' });
    const walk = walkTree(node, {
      owner: mount,
      after,
      onSkipped: (names) => skip(search, fullPath(path, names)),
    });
    try {
      return await collect(search, path, walk);
    } catch (error) {
      throw asPathError(error, path);
    }
  }
  const [from = ''] = after;
  const keys = located.filesystems.map(({ key }) => key).toSorted();
  for (const key of keys.filter((each) => each >= from)) {
    const stoppedAt = await searchBelow(search, mount, `/${key}`, key === from ? after.slice(1) : []);
    if (stoppedAt) return [key, ...stoppedAt];
  }
  return null;
}

async function collect(
  search: Search,
  path: GuestPath,
  walk: AsyncGenerator<WalkedEntry>,
): Promise<readonly string[] | null> {
  const { query, files } = search;
  for await (const { folder, names } of walk) {
    if (query.signal.aborted) throw new SendenseError('CANCELLED');
    search.examined += 1;
    const name = names.at(-1) ?? '';
    if (search.isMatch(name)) {
      const bytes = Buffer.from(name, 'latin1');
      const exact = fullPath(path, names);
      const found = { path: exact.toString(), pathB64: exact.toString('base64') };
      files.push({ ...found, ...(await describe(bytes, folder.child(bytes))) });
    }
    if (files.length >= query.limit || performance.now() > search.deadline) return names;
  }
  return null;
}

function skip(search: Search, path: Buffer): void {
  search.skipped += 1;
  if (search.skippedExamples.length < SKIPPED_EXAMPLES) search.skippedExamples.push(path.toString());
}

const fullPath = (base: GuestPath, names: readonly string[]) =>
  joinGuestPath([...splitGuestPath(base), ...names.map((name) => Buffer.from(name, 'latin1'))]);
const cursorOf = (names: readonly string[]) => Buffer.from(names.join('/'), 'latin1').toString('base64url');
const namesOf = (cursor: string) => Buffer.from(cursor, 'base64url').toString('latin1').split('/');
