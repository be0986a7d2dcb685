import { lstat, mkdir, readdir, readFile, realpath, rmdir, writeFile } from 'node:fs/promises';
import { basename, dirname, isAbsolute, join } from 'node:path';
import { errnoOf, SendenseError } from '../../base/sendense-error.ts';
import type { PrivilegedWork } from '../../mountd/privileged-work.ts';
import type { MountedDisks } from './mounted-disks.ts';
import type { UndoStack } from './undo-stack.ts';

/** In the mount's run folder: the folders that we made for the operator and must remove, outermost first. */
export const EXPOSED_FILE = 'exposed.json';

/**
 * Shows the mounts also where the operator asked for them: one file system directly there, several in
 * subfolders named by their keys.
 * @param exposeAt absolute path of an empty folder, or of a new one in an existing folder
 * @throws OUTPUT_INVALID, MOUNTD_REFUSED, PRIVILEGE_MISSING, TOOL_FAILED
 */
export async function exposeFolder(
  deps: { readonly work: PrivilegedWork; readonly folder: string },
  undo: UndoStack,
  exposeAt: string,
  shown: MountedDisks['shown'],
): Promise<void> {
  const target = await usableTarget(exposeAt);
  const places = shown.map(({ session, key, folder }) => ({
    place: { session, key },
    at: shown.length === 1 ? target.path : join(target.path, folder),
  }));
  const created = [
    ...(target.isNew ? [target.path] : []),
    ...places.map(({ at }) => at).filter((at) => at !== target.path),
  ];
  // written first: a daemon that is killed in between must find them
  await writeFile(join(deps.folder, EXPOSED_FILE), JSON.stringify(created), { mode: 0o600 });
  for (const folder of created) {
    await mkdir(folder, { mode: 0o700 });
    undo.push(`remove ${folder}`, () => removeEmpty(folder));
  }
  for (const { place, at } of places) {
    await deps.work.expose(place, at);
    undo.push(`unmount ${at}`, ({ force }) => deps.work.unexpose(at, force));
  }
}

/** The folders that a killed daemon had made for the operator, innermost first. */
export async function readExposed(runFolder: string): Promise<string[]> {
  const text = await readFile(join(runFolder, EXPOSED_FILE), 'utf8').catch(() => '[]');
  try {
    const value: unknown = JSON.parse(text);
    return Array.isArray(value) ? value.filter((entry) => typeof entry === 'string').toReversed() : [];
  } catch {
    // cut off by a crash before anything was made
    return [];
  }
}

/** Never removes what the operator put there meanwhile. */
export async function removeEmpty(folder: string): Promise<void> {
  await rmdir(folder).catch((error: unknown) => {
    if (!['ENOENT', 'ENOTEMPTY', 'EEXIST'].includes(errnoOf(error) ?? '')) throw error;
  });
}

async function usableTarget(path: string): Promise<{ readonly path: string; readonly isNew: boolean }> {
  const refuse = (detail: string, cause?: unknown) =>
    new SendenseError('OUTPUT_INVALID', { path, detail }, cause);
  if (!isAbsolute(path) || path.includes('\0')) throw refuse('it is not absolute');
  const parent = await realpath(dirname(path)).catch((error: unknown) => {
    throw refuse('the folder above it does not exist', error);
  });
  const real = join(parent, basename(path));
  const info = await lstat(real).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return null;
    throw refuse(errnoOf(error) ?? 'unreadable', error);
  });
  if (info === null) return { path: real, isNew: true };
  if (!info.isDirectory()) throw refuse('it is not a folder');
  if ((await readdir(real)).length > 0) throw refuse('the folder is not empty');
  return { path: real, isNew: false };
}
