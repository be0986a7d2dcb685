import type { Readable } from 'node:stream';
import { SendenseError } from '../../../base/sendense-error.ts';
import type { GuestNode } from '../guest-node.ts';
import { fileArguments, folderArguments, tarStream } from './tar-stream.ts';
import { zipStream } from './zip-stream.ts';

export const archiveFormats = ['tar.zst', 'tar.gz', 'tar', 'zip'] as const;
export type ArchiveFormat = (typeof archiveFormats)[number];

/**
 * Everything below a folder as one stream, which fails when anything in it could not be read.
 * @param release called once when the stream has ended, however it did
 */
export async function packFolder(
  folder: GuestNode,
  format: ArchiveFormat,
  signal: AbortSignal,
  release: () => Promise<void>,
): Promise<Readable> {
  if (format === 'zip') return zipStream(folder, signal, release);
  return tarStream(await folderArguments(folder.fd), format, signal, release);
}

/** @throws REQUEST_INVALID for a zip: the plain file says as much */
export async function packFile(
  file: GuestNode,
  fd: number,
  format: ArchiveFormat,
  signal: AbortSignal,
  release: () => Promise<void>,
): Promise<Readable> {
  if (format === 'zip')
    throw new SendenseError('REQUEST_INVALID', {
      detail: 'only folders are packed as zip; leave the format out',
    });
  return tarStream(fileArguments(fd, file.name?.toString() ?? 'file'), format, signal, release);
}
