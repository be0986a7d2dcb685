import { createWriteStream } from 'node:fs';
import { chmod, lstat, mkdir, rename, rm, utimes } from 'node:fs/promises';
import type { IncomingMessage } from 'node:http';
import { join, resolve } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { runPiped } from '../../base/process.ts';
import { SendenseError } from '../../base/sendense-error.ts';
import { type Client, query } from '../client.ts';

export interface Extracted {
  /** Absolute path of what was made. */
  readonly output: string;
  readonly kind: 'file' | 'directory';
}

/**
 * Gets a file or a folder out of a mount.
 * @param output a new path, a folder to put the file in, or `-` for stdout
 * @returns null when it went to stdout
 * @throws PATH_…, OUTPUT_EXISTS
 */
export async function extract(
  client: Client,
  mountId: string,
  file: string,
  output: string,
  force: boolean,
): Promise<Extracted | null> {
  const answer = await client.open('GET', `/restore/${mountId}/download${query({ path: file })}`);
  if (output === '-') {
    await pipeline(answer, process.stdout, { end: false });
    return null;
  }
  const target = resolve(output);
  if (answer.headers['x-sendense-kind'] !== 'directory')
    return { output: await saveFile(answer, target, force), kind: 'file' };
  await unpack(answer, target);
  return { output: target, kind: 'directory' };
}

/** Under a temporary name until it is whole: a cut download must not look like a file. */
async function saveFile(answer: IncomingMessage, target: string, force: boolean): Promise<string> {
  const existing = await lstat(target).catch(() => null);
  const path = existing?.isDirectory() ? join(target, nameOf(answer)) : target;
  if (!force && (await lstat(path).catch(() => null)) !== null) {
    answer.destroy();
    throw new SendenseError('OUTPUT_EXISTS', { path });
  }
  const partial = `${path}.sendense-partial`;
  try {
    await pipeline(answer, createWriteStream(partial, { mode: 0o600 }));
    await chmod(partial, Number.parseInt(String(answer.headers['x-sendense-mode'] ?? '600'), 8) & 0o777);
    const mtime = new Date(String(answer.headers['x-sendense-mtime']));
    if (!Number.isNaN(mtime.getTime())) await utimes(partial, mtime, mtime);
    await rename(partial, path);
    return path;
  } catch (error) {
    await rm(partial, { force: true });
    throw error;
  }
}

function nameOf(answer: IncomingMessage): string {
  const encoded =
    /filename\*=UTF-8''([^;]+)/.exec(String(answer.headers['content-disposition']))?.[1] ?? 'file';
  // a name out of a guest must not choose another folder
  return decodeURIComponent(encoded).replaceAll('/', '_').replaceAll('\0', '_');
}

async function unpack(answer: IncomingMessage, target: string): Promise<void> {
  await mkdir(target, { recursive: true });
  const tar = runPiped('tar', [
    '--zstd',
    '--extract',
    '--file=-',
    '--xattrs',
    '--no-overwrite-dir',
    `--directory=${target}`,
  ]);
  await pipeline(answer, tar.stdin);
  await tar.done;
}
