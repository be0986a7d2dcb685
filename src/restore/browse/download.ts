import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { SendenseError } from '../../base/sendense-error.ts';
import { type ArchiveFormat, packFile, packFolder } from './archive/archive-format.ts';
import { fileTypeOf, isoTime } from './file-type.ts';
import type { GuestNode } from './guest-node.ts';
import { displayPath, type GuestPath } from './guest-path.ts';
import { asPathError } from './guest-root.ts';
import { type BrowsableMount, locatePath } from './locate-path.ts';
import { FilePieces } from './transfer/file-pieces.ts';

/** One of the two streams may be taken, or `close` called; either way no descriptor stays open. */
export interface FileDownload extends AsyncDisposable {
  readonly kind: 'file';
  /** For people; bytes that are not UTF-8 are shown as U+FFFD. */
  readonly name: string;
  readonly size: number;
  readonly mtime: string;
  readonly mtimeMs: number;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Quoted, ready for the header. */
  readonly etag: string;
  /** @param end included; -1 for an empty file */
  pieces(start: number, end: number): FilePieces;
  /** An archive that holds this file alone, with all that a plain download loses. */
  archive(format: ArchiveFormat, signal: AbortSignal): Promise<Readable>;
  close(): Promise<void>;
}

export interface DirectoryDownload extends AsyncDisposable {
  readonly kind: 'directory';
  readonly name: string;
  archive(format: ArchiveFormat, signal: AbortSignal): Promise<Readable>;
  close(): Promise<void>;
}

/**
 * Opens a file or folder of a mount for reading; symlinks are followed inside the guest.
 * @throws PATH_UNKNOWN, PATH_AMBIGUOUS, PATH_INVALID, PATH_WRONG_TYPE, MOUNT_FAILED
 */
export async function openDownload(
  mount: BrowsableMount,
  path: GuestPath,
): Promise<FileDownload | DirectoryDownload> {
  const located = await locatePath(mount, path);
  const wrongType = (actual: string) =>
    new SendenseError('PATH_WRONG_TYPE', { path: displayPath(path), actual, expected: 'a file or folder' });
  if (located.kind === 'keys') throw wrongType('the list of file systems');
  const { node, filesystem } = located;
  try {
    if (node.stat.isDirectory())
      return directoryDownload(node, (node.name ?? Buffer.from(filesystem.key)).toString());
    // O_PATH touched nothing so far: opening a FIFO or a device for reading could block or do something
    if (!node.stat.isFile()) throw wrongType(fileTypeOf(node.stat));
    const handle = await open(node.procPath, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
    const scope = `${mount.mountId}-${filesystem.key}`;
    const download = fileDownload(handle, node, scope, filesystem.reader === 'kernel');
    await node.close();
    return download;
  } catch (error) {
    await node.close();
    throw asPathError(error, path);
  }
}

/** @param direct the file system reads from a block device of this machine */
function fileDownload(handle: FileHandle, node: GuestNode, scope: string, direct: boolean): FileDownload {
  const { stat } = node;
  const close = () => handle.close();
  return {
    kind: 'file',
    name: node.name?.toString() ?? '',
    size: Number(stat.size),
    mtime: isoTime(stat.mtimeMs),
    mtimeMs: Number(stat.mtimeMs),
    mode: Number(stat.mode) & 0o7777,
    uid: Number(stat.uid),
    gid: Number(stat.gid),
    etag: `"${scope}-${stat.ino.toString(36)}-${stat.mtimeNs.toString(36)}-${stat.size.toString(36)}"`,
    pieces: (start, end) => new FilePieces(handle, { start, end: end + 1, direct }),
    archive: (format, signal) => packFile(node, handle.fd, format, signal, close),
    close,
    [Symbol.asyncDispose]: close,
  };
}

function directoryDownload(node: GuestNode, name: string): DirectoryDownload {
  const close = () => node.close();
  return {
    kind: 'directory',
    name,
    archive: (format, signal) => packFolder(node, format, signal, close),
    close,
    [Symbol.asyncDispose]: close,
  };
}
