import { lstat, realpath, stat } from 'node:fs/promises';
import { basename, dirname, isAbsolute, join } from 'node:path';
import { errnoOf, SendenseError } from '../base/sendense-error.ts';

export interface OutputRules {
  readonly overwrite: boolean;
  /** Folders and files that must not be written to or replaced. */
  readonly forbidden: readonly string[];
}

/**
 * Decides whether a file may be written at this path, and where that really is.
 * @returns the path with all symlinks of its folder resolved
 * @throws OUTPUT_INVALID, OUTPUT_EXISTS
 */
export async function checkOutputPath(output: string, rules: OutputRules): Promise<string> {
  const refuse = (detail: string, cause?: unknown) =>
    new SendenseError('OUTPUT_INVALID', { path: output, detail }, cause);
  if (output.includes('\0')) throw refuse('it holds a NUL byte');
  if (!isAbsolute(output)) throw refuse('it is not absolute');
  if (output.endsWith('/') || ['', '.', '..'].includes(basename(output))) throw refuse('it names no file');
  const parent = await realpath(dirname(output)).catch((error: unknown) => {
    throw refuse('its folder does not exist', error);
  });
  if (!(await stat(parent)).isDirectory()) throw refuse('what should be its folder is none');
  const path = join(parent, basename(output));
  const existing = await lstat(path).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return null;
    throw refuse(errnoOf(error) ?? 'unreadable', error);
  });
  if (existing && !existing.isFile()) throw refuse('it exists and is not an ordinary file');
  const forbidden = await identities(rules.forbidden);
  for (const place of ancestry(path)) {
    const name = forbidden.get(await identityOf(place));
    if (name !== undefined) throw refuse(`it would write to ${name}`);
  }
  if (existing && !rules.overwrite) throw new SendenseError('OUTPUT_EXISTS', { path: output });
  return path;
}

/** The path itself, then each folder above it. */
function ancestry(path: string): string[] {
  const parent = dirname(path);
  return parent === path ? [path] : [path, ...ancestry(parent)];
}

/** Device and inode: the same place stays the same through hard links and bind mounts, where names differ. */
async function identityOf(path: string): Promise<string> {
  const info = await stat(path, { bigint: true }).catch(() => null);
  return info === null ? '' : `${info.dev}:${info.ino}`;
}

async function identities(paths: readonly string[]): Promise<Map<string, string>> {
  const pairs = await Promise.all(paths.map(async (path) => [await identityOf(path), path] as const));
  return new Map(pairs.filter(([identity]) => identity !== ''));
}
