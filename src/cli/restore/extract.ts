import { lstat, mkdir, realpath, rm } from 'node:fs/promises';
import type { IncomingMessage } from 'node:http';
import { basename, dirname, join, resolve } from 'node:path';
import { Transform, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { run } from '../../base/process/run.ts';
import { runPiped } from '../../base/process/run-piped.ts';
import { SendenseError } from '../../base/sendense-error.ts';
import { formatBytes } from '../../base/units.ts';
import { type Client, query } from '../connection/client.ts';
import { putInPlace, workFolderFor } from './put-in-place.ts';

export interface Extracted {
  /** Absolute path of what was made. */
  readonly output: string;
  readonly kind: 'file' | 'directory';
}

export interface ExtractRequest {
  readonly mountId: string;
  /** Path in the guest. */
  readonly file: string;
  /** A new path, a folder to put a file in, a new or empty folder for a folder, or `-` for stdout. */
  readonly output: string;
  /** Replace what is there. */
  readonly force: boolean;
  /** Keep what gives rights on this machine: setuid and setgid bits, device nodes, capabilities. */
  readonly keepPrivileges: boolean;
  /** Ctrl-C. */
  readonly signal: AbortSignal;
}

interface FileFacts {
  readonly name_b64: string;
  readonly type: string;
}

const PROGRESS_INTERVAL_MS = 200;

/**
 * Gets a file or a folder out of a mount. It is made under a hidden name next to its place and moved there when it is
 * whole, so that nothing cut looks like a result.
 * @returns null when it went to stdout
 * @throws PATH_…, OUTPUT_EXISTS, OUTPUT_INVALID, NOT_ALLOWED, CANCELLED
 */
export async function extract(client: Client, request: ExtractRequest): Promise<Extracted | null> {
  const { mountId, file, output } = request;
  const facts = await client.call<FileFacts>(
    'GET',
    `/restore/${mountId}/stat${query({ path: file, follow: true })}`,
  );
  const isFolder = facts.type === 'directory';
  const open = (format?: string) =>
    client.open('GET', `/restore/${mountId}/download${query({ path: file, format })}`);
  if (output === '-') {
    const answer = await open(isFolder ? 'tar' : undefined);
    await orCancelled(request, pipeline(answer, process.stdout, { end: false, signal: request.signal }));
    return null;
  }
  if (request.keepPrivileges && process.getuid?.() !== 0)
    throw new SendenseError('NOT_ALLOWED', {
      detail: 'Only root can keep setuid bits, device nodes and capabilities.',
    });
  const target = await placeOf(resolve(output), facts, isFolder);
  const work = workFolderFor(target);
  await refuseExisting(target, isFolder, request.force);
  await mkdir(work, { mode: 0o700 }).catch((error: unknown) => {
    const detail = error instanceof Error ? error.message : String(error);
    throw new SendenseError('OUTPUT_INVALID', { path: target, detail }, error);
  });
  try {
    const made = join(work, 'content');
    await mkdir(made);
    await orCancelled(request, unpack(await open('tar'), made, request));
    if (!request.keepPrivileges) await dropPrivileges(made);
    await putInPlace(isFolder ? made : await onlyEntryOf(made), target, request.force);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
  return { output: target, kind: isFolder ? 'directory' : 'file' };
}

/** A file goes into a folder that is there, under its own name. */
async function placeOf(target: string, facts: FileFacts, isFolder: boolean): Promise<string> {
  const existing = await lstat(target).catch(() => null);
  // who names a link to a folder means the folder
  const folder = existing?.isSymbolicLink() ? await realpath(target).catch(() => target) : target;
  const isThere = (await lstat(folder).catch(() => null))?.isDirectory() ?? false;
  if (!isThere) {
    // below a link the folder is where it leads to, and the hidden name must be on the same file system
    const parent = await realpath(dirname(target)).catch(() => dirname(target));
    return join(parent, basename(target));
  }
  // a name out of a guest must not choose another folder
  const name = Buffer.from(facts.name_b64, 'base64').toString().replaceAll('/', '_').replaceAll('\0', '_');
  return isFolder ? folder : join(folder, ['', '.', '..'].includes(name) ? 'file' : name);
}

/** Before anything is fetched; the move at the end looks again. */
async function refuseExisting(target: string, isFolder: boolean, force: boolean): Promise<void> {
  const existing = await lstat(target).catch(() => null);
  if (existing !== null && !force && !(isFolder && existing.isDirectory()))
    throw new SendenseError('OUTPUT_EXISTS', { path: target });
}

/** tar refuses `..`, takes the slash off absolute names, and makes links last, so that nothing is written through one. */
async function unpack(answer: IncomingMessage, folder: string, request: ExtractRequest): Promise<void> {
  const args = ['--extract', '--file=-', '--numeric-owner', '--same-permissions', '--xattrs', '--acls'];
  const everything = request.keepPrivileges ? ['--xattrs-include=*'] : [];
  const tar = runPiped('tar', [...args, ...everything, '--keep-old-files', `--directory=${folder}`]);
  try {
    await pipeline(answer, progress(), untilClosed(tar.stdin), { signal: request.signal });
  } catch (error) {
    tar.kill('SIGKILL');
    // when tar gave up first, it knows why
    const cause: unknown = await tar.done.then(
      () => error,
      (failure: unknown) => failure,
    );
    throw answer.complete && !request.signal.aborted ? cause : brokenOff(error);
  }
  await tar.done;
}

/**
 * Feeds a program until it has had enough: tar may close its input at the end mark, before the padding behind it. What
 * follows is taken and dropped, so that only an answer that was cut off is an error.
 */
function untilClosed(input: NodeJS.WritableStream): Writable {
  return new Writable({
    write: (chunk, _encoding, done) => {
      if (input.writable) input.write(chunk, () => done());
      else done();
    },
    final: (done) => {
      input.end();
      done();
    },
  });
}

const brokenOff = (error: unknown) =>
  new SendenseError(
    'MOUNT_FAILED',
    { detail: 'the daemon broke the download off; its events say why' },
    error,
  );

async function orCancelled(request: ExtractRequest, work: Promise<void>): Promise<void> {
  try {
    await work;
  } catch (error) {
    if (request.signal.aborted) throw new SendenseError('CANCELLED', {}, error);
    throw error;
  }
}

/** The folder that holds it is closed to everybody else, so that nobody can use what is dropped meanwhile. */
async function dropPrivileges(folder: string): Promise<void> {
  const bits = ['-type', 'f', '-perm', '/6000', '-exec', 'chmod', 'ug-s', '{}', '+'];
  const devices = ['(', '-type', 'b', '-o', '-type', 'c', ')', '-delete'];
  await run('find', [folder, '-xdev', ...bits]);
  await run('find', [folder, '-xdev', ...devices]);
}

async function onlyEntryOf(folder: string): Promise<string> {
  const { stdout } = await run('find', [folder, '-mindepth', '1', '-maxdepth', '1', '-print0']);
  const [first] = stdout.split('\0');
  if (!first) throw new SendenseError('INTERNAL', { detail: 'the archive of a file was empty' });
  return first;
}

/** A line on a terminal, nothing elsewhere. */
function progress(): Transform {
  let bytes = 0;
  let shownAt = 0;
  const startedAt = performance.now();
  const isShown = process.stderr.isTTY;
  return new Transform({
    transform: (chunk: Buffer, _encoding, next) => {
      bytes += chunk.length;
      const now = performance.now();
      if (isShown && now - shownAt > PROGRESS_INTERVAL_MS) {
        shownAt = now;
        const speed = bytes / Math.max(0.001, (now - startedAt) / 1000);
        process.stderr.write(`\r\x1b[K${formatBytes(bytes)}  ${formatBytes(speed)}/s`);
      }
      next(null, chunk);
    },
    flush: (next) => {
      if (isShown) process.stderr.write('\r\x1b[K');
      next();
    },
  });
}
