import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { run } from '../../base/process/run.ts';
import { type FileType, fileTypeOf, isoTime } from './file-type.ts';
import type { GuestNode } from './guest-node.ts';
import { displayPath, type GuestPath } from './guest-path.ts';
import { asPathError } from './guest-root.ts';
import { type BrowsableMount, locatePath } from './locate-path.ts';

/** What `file` gets to see: enough for every signature that matters (ISO 9660 has its own at 32 KiB). */
const GUESS_BYTES = 64 * 1024;
/** A helper that needs longer tells nothing worth waiting for. */
const TOOL_TIMEOUT_MS = 3000;
/** `st_blocks` counts these, stat(2). */
const BLOCK_BYTES = 512;

export interface FilePreview {
  readonly encoding: 'text' | 'hex';
  readonly content: string;
  readonly bytes: number;
  /** The file goes on. */
  readonly truncated: boolean;
}

export interface FileDetails {
  readonly path: string;
  readonly name: string;
  readonly nameB64: string;
  readonly type: FileType;
  readonly size: number;
  /** Less than `size` in a sparse file. */
  readonly allocatedBytes: number;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly links: number;
  readonly atime: string;
  readonly mtime: string;
  readonly ctime: string;
  /** Null where they cannot be told. */
  readonly xattrs: readonly string[] | null;
  /** Guessed by content; null where that cannot be done. */
  readonly mediaType: string | null;
  readonly target: string | null;
  readonly targetB64: string | null;
  readonly preview: FilePreview | null;
}

export interface StatOptions {
  /** False: a symlink at the end is described itself. */
  readonly follow: boolean;
  /** Most bytes of the beginning of a file to show; 0: none. */
  readonly previewBytes: number;
}

/**
 * What there is to know about one file without downloading it.
 * @throws PATH_UNKNOWN, PATH_AMBIGUOUS, PATH_INVALID, MOUNT_FAILED
 */
export async function statFile(
  mount: BrowsableMount,
  path: GuestPath,
  options: StatOptions,
): Promise<FileDetails> {
  const located = await locatePath(mount, path, { followLast: options.follow });
  if (located.kind === 'keys') return folderOfKeys(path, located.filesystems.length);
  await using node = located.node;
  try {
    const { stat } = node;
    const name = node.name ?? Buffer.alloc(0);
    const [xattrs, content] = await Promise.all([xattrNames(node), contentOf(node, options.previewBytes)]);
    const { target } = node;
    return {
      path: displayPath(path),
      name: name.toString(),
      nameB64: name.toString('base64'),
      type: fileTypeOf(stat),
      size: Number(stat.size),
      allocatedBytes: Number(stat.blocks) * BLOCK_BYTES,
      mode: Number(stat.mode) & 0o7777,
      uid: Number(stat.uid),
      gid: Number(stat.gid),
      links: Number(stat.nlink),
      atime: isoTime(stat.atimeMs),
      mtime: isoTime(stat.mtimeMs),
      ctime: isoTime(stat.ctimeMs),
      xattrs,
      ...content,
      target: target?.toString() ?? null,
      targetB64: target?.toString('base64') ?? null,
    };
  } catch (error) {
    throw asPathError(error, path);
  }
}

function folderOfKeys(path: GuestPath, count: number): FileDetails {
  const epoch = isoTime(0);
  const nothing = { xattrs: null, mediaType: null, target: null, targetB64: null, preview: null };
  const numbers = { size: 0, allocatedBytes: 0, mode: 0o555, uid: 0, gid: 0, links: count + 2 };
  const times = { atime: epoch, mtime: epoch, ctime: epoch };
  return {
    path: displayPath(path),
    name: '',
    nameB64: '',
    type: 'directory',
    ...numbers,
    ...times,
    ...nothing,
  };
}

/** Through a program, for Node cannot list them; it gets a descriptor of ours and follows nothing else. */
async function xattrNames(node: GuestNode): Promise<string[] | null> {
  if (!node.stat.isFile() && !node.stat.isDirectory()) return null;
  try {
    const args = ['--match=-', '--absolute-names', `/proc/${process.pid}/fd/${node.fd}`];
    const { stdout } = await run('getfattr', args, { timeoutMs: TOOL_TIMEOUT_MS });
    return stdout.split('\n').filter((line) => line !== '' && !line.startsWith('# file:'));
  } catch {
    // not installed, or a file system without them
    return null;
  }
}

async function contentOf(
  node: GuestNode,
  previewBytes: number,
): Promise<Pick<FileDetails, 'mediaType' | 'preview'>> {
  if (!node.stat.isFile()) return { mediaType: null, preview: null };
  const head = await readHead(node, Math.max(GUESS_BYTES, previewBytes));
  const mediaType = await guessType(head);
  if (previewBytes === 0) return { mediaType, preview: null };
  const shown = head.subarray(0, previewBytes);
  const truncated = Number(node.stat.size) > shown.length;
  const text = textOf(shown, truncated);
  const [encoding, content] =
    text === null ? (['hex', shown.toString('hex')] as const) : (['text', text] as const);
  return { mediaType, preview: { encoding, content, bytes: shown.length, truncated } };
}

async function readHead(node: GuestNode, bytes: number): Promise<Buffer> {
  await using file = await open(
    node.procPath,
    constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY,
  );
  const wanted = Math.min(bytes, Number(node.stat.size));
  const { buffer, bytesRead } = await file.read(Buffer.alloc(wanted), 0, wanted, 0);
  return buffer.subarray(0, bytesRead);
}

/** It gets bytes, never a path. */
async function guessType(head: Buffer): Promise<string | null> {
  try {
    const { stdout } = await run('file', ['--brief', '--mime-type', '-'], {
      input: head,
      timeoutMs: TOOL_TIMEOUT_MS,
    });
    return stdout.trim();
  } catch {
    return null;
  }
}

/** Null when it is no UTF-8 text. A character cut off at the end is left out. */
function textOf(bytes: Buffer, isCut: boolean): string | null {
  if (bytes.includes(0)) return null;
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes, { stream: isCut });
  } catch {
    return null;
  }
}
