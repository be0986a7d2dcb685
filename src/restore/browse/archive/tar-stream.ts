import { readFile, readlink } from 'node:fs/promises';
import { type Readable, Transform } from 'node:stream';
import { runPiped } from '../../../base/process/run-piped.ts';
import { SendenseError, toSendenseError } from '../../../base/sendense-error.ts';

export type TarFormat = 'tar' | 'tar.gz' | 'tar.zst';

const compressionOf: Readonly<Record<TarFormat, readonly string[]>> = {
  tar: [],
  'tar.gz': ['--gzip'],
  'tar.zst': ['--zstd'],
};

/** What tar keeps: holes, numbers of owners, extended attributes with ACLs and capabilities. */
const keepAll = ['--sparse', '--numeric-owner', '--xattrs', '--acls'];

/**
 * The arguments that pack a whole folder. `--one-file-system` would leave out the subvolumes of a btrfs, which have
 * device numbers of their own; what is mounted below the folder is left out by name instead.
 * @param fd a folder of this process
 */
export async function folderArguments(fd: number): Promise<string[]> {
  const folder = `/proc/${process.pid}/fd/${fd}`;
  const foreign = (await mountsBelow(fd)).map((path) => `--exclude=./${path}`);
  return [...keepAll, '--anchored', '--no-wildcards', ...foreign, '-C', folder, '.'];
}

/** @param name the name in the archive */
export function fileArguments(fd: number, name: string): string[] {
  const escaped = name.replace(/[\\&#]/g, '\\$&').replaceAll('\n', '\\n');
  // the descriptor is a link of the kernel to the file; what it leads to is a file already, so nothing else is followed
  return [
    ...keepAll,
    '--dereference',
    '--absolute-names',
    `--transform=flags=r;s#^.*$#${escaped}#`,
    `/proc/${process.pid}/fd/${fd}`,
  ];
}

/** Paths below an open folder at which something is mounted, relative to it. */
async function mountsBelow(fd: number): Promise<string[]> {
  const [text, base] = await Promise.all([
    readFile('/proc/self/mountinfo', 'utf8'),
    readlink(`/proc/self/fd/${fd}`),
  ]);
  const points = text
    .split('\n')
    .map((line) =>
      (line.split(' ')[4] ?? '').replace(/\\([0-7]{3})/g, (_, octal: string) =>
        String.fromCharCode(Number.parseInt(octal, 8)),
      ),
    );
  const below = points
    .filter((point) => point.startsWith(`${base}/`))
    .map((point) => point.slice(base.length + 1));
  if (below.some((path) => /[^ -~]/.test(path)))
    throw new SendenseError('MOUNT_FAILED', { detail: 'something is mounted inside it under an odd name' });
  return below;
}

/**
 * What tar packs. The stream fails when tar does, so that a cut archive is never taken for a whole one.
 * @param packed from one of the functions above; the descriptor must stay open until the stream is closed
 * @param release called once when the stream has ended, however it did
 */
export function tarStream(
  packed: readonly string[],
  format: TarFormat,
  signal: AbortSignal,
  release: () => Promise<void>,
): Readable {
  const tar = runPiped('tar', ['--create', '--file=-', ...compressionOf[format], ...packed], { signal });
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
