import { type Readable, Transform } from 'node:stream';
import { runPiped } from '../../base/process.ts';
import { toSendenseError } from '../../base/sendense-error.ts';

export type ArchiveFormat = 'tar' | 'tar.gz' | 'tar.zst';

const compressionOf: Readonly<Record<ArchiveFormat, readonly string[]>> = {
  tar: [],
  'tar.gz': ['--gzip'],
  'tar.zst': ['--zstd'],
};

/**
 * Packs the folder held by a descriptor of this process. The stream fails when tar does, so that a cut archive
 * is never taken for a whole one.
 * @param fd a folder; must stay open until the stream is closed
 * @param release called once when the stream has ended, however it did
 */
export function archiveStream(
  fd: number,
  format: ArchiveFormat,
  signal: AbortSignal,
  release: () => Promise<void>,
): Readable {
  const folder = `/proc/${process.pid}/fd/${fd}`;
  const args = [
    '--sparse',
    '--numeric-owner',
    '--xattrs',
    '--one-file-system',
    ...compressionOf[format],
    '-C',
    folder,
    '-cf',
    '-',
    '.',
  ];
  const tar = runPiped('tar', args, { signal });
  const archive = new Transform({
    transform: (chunk: Buffer, _encoding, next) => next(null, chunk),
    // the pipe also ends when tar is killed or fails: its exit code decides
    flush: (next) => void tar.done.then(() => next(), next),
    destroy: (error, next) => {
      tar.kill('SIGKILL');
      void tar.done
        .catch(() => undefined)
        .then(release)
        .then(
          () => next(error),
          (failure: unknown) => next(error ?? toSendenseError(failure)),
        );
    },
  });
  tar.stdout.on('error', (error: Error) => archive.destroy(error));
  return tar.stdout.pipe(archive);
}
