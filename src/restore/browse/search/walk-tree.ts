import { lstat, readdir } from 'node:fs/promises';
import pLimit from 'p-limit';
import type { GuestNode } from '../guest-node.ts';
import { openChild } from '../guest-root.ts';

/** Each level holds a descriptor. */
const MAX_DEPTH = 512;
/** PATH_MAX: nobody could ask for what lies deeper by its path. */
const MAX_PATH_BYTES = 4096;
/** Requests to the kernel at a time; Node's pool has four threads. */
const STAT_CONCURRENCY = 8;

export interface WalkedEntry {
  /** The folder that holds it; open until the walk goes on. */
  readonly folder: GuestNode;
  /** From the start of the walk, the last one its own; latin1 text, a character per byte. */
  readonly names: readonly string[];
  readonly isFolder: boolean;
}

interface Entry {
  readonly name: string;
  readonly isFolder: boolean;
}

interface Level {
  readonly folder: GuestNode;
  readonly entries: readonly Entry[];
  next: number;
}

export interface WalkOptions {
  /** Walks of the same owner that go on in a large folder do not read it again; nothing in a mount changes. */
  readonly owner: object;
  /** The entry after which to go on, from the start of the walk; empty: from the beginning. */
  readonly after?: readonly string[];
  /** Called for each folder that was not entered: unreadable, too deep, or of a foreign mount. */
  readonly onSkipped: (names: readonly string[], reason: string) => void;
}

/**
 * Everything below a folder, each folder before what it holds, in the order of the bytes of the names. Links are never
 * followed and foreign mounts not entered. Memory: the names of the folders on the way down.
 * @param root stays open; it is the caller's
 */
export async function* walkTree(
  root: GuestNode,
  { owner, after = [], onSkipped }: WalkOptions,
): AsyncGenerator<WalkedEntry> {
  const levels: Level[] = [await levelOf(owner, root, after[0])];
  const names: string[] = [];
  // still on the way to where the last walk stopped
  let resumed = 0;
  try {
    for (let level = levels.at(-1); level; level = levels.at(-1)) {
      const entry = level.entries[level.next];
      if (!entry) {
        levels.pop();
        names.pop();
        if (level.folder !== root) await level.folder.close();
        continue;
      }
      level.next += 1;
      const path = [...names, entry.name];
      const isKnown = resumed === levels.length - 1 && after[resumed] === entry.name;
      if (isKnown) resumed += 1;
      else yield { folder: level.folder, names: path, isFolder: entry.isFolder };
      if (!entry.isFolder) continue;
      const below = await enter(
        owner,
        levels,
        entry.name,
        path,
        isKnown ? after[resumed] : undefined,
        onSkipped,
      );
      if (!below) continue;
      levels.push(below);
      names.push(entry.name);
    }
  } finally {
    for (const { folder } of levels) if (folder !== root) await folder.close();
  }
}

async function enter(
  owner: object,
  levels: readonly Level[],
  name: string,
  path: readonly string[],
  from: string | undefined,
  onSkipped: WalkOptions['onSkipped'],
): Promise<Level | null> {
  const parent = levels.at(-1)?.folder;
  if (!parent) return null;
  const pathBytes = path.reduce((sum, each) => sum + each.length + 1, 0);
  if (levels.length > MAX_DEPTH || pathBytes > MAX_PATH_BYTES) {
    onSkipped(path, 'it is too deep');
    return null;
  }
  let folder: GuestNode | null = null;
  try {
    folder = await openChild(parent, Buffer.from(name, 'latin1'));
    if (folder === null) {
      onSkipped(path, 'something else is mounted there');
      return null;
    }
    // a damaged file system may have a folder inside itself
    const { dev, ino } = folder.stat;
    if (levels.some((level) => level.folder.stat.ino === ino && level.folder.stat.dev === dev))
      throw new Error('it holds itself');
    return await levelOf(owner, folder, from);
  } catch (error) {
    await folder?.close();
    onSkipped(path, error instanceof Error ? error.message.replace(/,? '?\/proc\/.*$/s, '') : String(error));
    return null;
  }
}

interface KnownFolder {
  readonly device: bigint;
  readonly inode: bigint;
  readonly entries: readonly Entry[];
}
const lastLarge = new WeakMap<object, KnownFolder>();
const LARGE_ENTRIES = 1000;

/** @param from the first name that is wanted, in the order of bytes */
async function levelOf(owner: object, folder: GuestNode, from: string | undefined): Promise<Level> {
  const { dev, ino } = folder.stat;
  const known = lastLarge.get(owner);
  const isKnown = known?.device === dev && known.inode === ino;
  const entries = isKnown
    ? known.entries
    : (await readEntries(folder)).sort((a, b) => (a.name < b.name ? -1 : 1));
  if (entries.length >= LARGE_ENTRIES) lastLarge.set(owner, { device: dev, inode: ino, entries });
  const start = from === undefined ? 0 : entries.findIndex(({ name }) => name >= from);
  return { folder, entries, next: start < 0 ? entries.length : start };
}

async function readEntries(folder: GuestNode): Promise<Entry[]> {
  try {
    // as buffers: where the file system tells no types, Node looks them up by these very names
    const entries = await readdir(folder.procPath, { withFileTypes: true, encoding: 'buffer' });
    return entries.map((entry) => ({ name: entry.name.toString('latin1'), isFolder: entry.isDirectory() }));
  } catch {
    // one damaged inode must not hide the rest of its folder
    const atOnce = pLimit(STAT_CONCURRENCY);
    const isFolder = async (name: string) =>
      (await lstat(folder.child(Buffer.from(name, 'latin1'))).catch(() => null))?.isDirectory() ?? false;
    const names = await readdir(folder.procPath, { encoding: 'latin1' });
    return await Promise.all(
      names.map((name) => atOnce(async () => ({ name, isFolder: await isFolder(name) }))),
    );
  }
}
