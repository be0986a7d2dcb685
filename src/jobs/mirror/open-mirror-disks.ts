import { randomBytes } from 'node:crypto';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { SendenseError } from '../../base/sendense-error.ts';
import { runTask } from '../../mirror/program/run-task.ts';
import { nbdImage } from '../../qemu/block-graph.ts';
import { accessOf, findRecord, type MirrorDeps } from './mirror-deps.ts';
import { findMirrored, type MirroredBackup } from './mirror-points.ts';

/** `<mirror>/<restore point>` names one in a mirror. @returns null for one in a repository */
export function mirrorRef(wanted: string): { readonly mirror: string; readonly backup: string } | null {
  const at = wanted.indexOf('/');
  return at === -1 ? null : { mirror: wanted.slice(0, at), backup: wanted.slice(at + 1) };
}

/** Decrypted blocks that are kept in memory for one opened restore point. */
const CACHE_BYTES = 96 * 1024 * 1024;

export interface MirrorDisks {
  readonly backup: MirroredBackup;
  readonly disks: readonly {
    readonly diskIndex: number;
    readonly sizeBytes: number;
    readonly chain: readonly string[];
  }[];
  /** Ends the program that reads the bucket. */
  readonly close: () => Promise<void>;
  /** Told when it ends by itself; every read fails from then on. */
  readonly lost: Promise<void>;
}

/**
 * Makes disks of a mirrored restore point readable: a program of ours serves them over NBD and fetches what is read.
 * @param diskIndex one disk, or null for all
 * @throws MIRROR_UNKNOWN, MIRROR_POINT_UNKNOWN, DISK_UNKNOWN, MIRROR_…
 */
export async function openMirrorDisks(
  deps: MirrorDeps,
  name: string,
  wanted: string,
  diskIndex: number | null,
): Promise<MirrorDisks> {
  const record = findRecord(deps, name);
  const backup = findMirrored(deps, record, wanted);
  const chosen = backup.disks.filter((disk) => diskIndex === null || disk.diskIndex === diskIndex);
  if (chosen.length === 0)
    throw new SendenseError('DISK_UNKNOWN', {
      subject: `The backup ${backup.backupId}`,
      disk: diskIndex ?? '(any)',
    });
  const folder = join(deps.runFolder, `read-${randomBytes(4).toString('hex')}`);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const socketPath = join(folder, 's');
  const aborter = new AbortController();
  const ready = Promise.withResolvers<void>();
  const serving = runTask({
    mirrorFile: deps.mirrorFile,
    task: {
      task: 'serve',
      access: await accessOf(deps, record),
      points: chosen.map((point) => ({ name: point.name, exportName: `disk${point.diskIndex}` })),
      socketPath,
      cacheBytes: CACHE_BYTES,
    },
    onReady: ready.resolve,
    signal: aborter.signal,
  });
  serving.then(() => ready.reject(new SendenseError('MIRROR_DIED', { detail: 'it ended' })), ready.reject);
  const close = async () => {
    aborter.abort();
    await serving.catch(() => undefined);
    await rm(folder, { recursive: true, force: true });
  };
  try {
    await ready.promise;
  } catch (error) {
    await close();
    throw error;
  }
  return {
    backup,
    disks: chosen.map(({ diskIndex: index, sizeBytes }) => ({
      diskIndex: index,
      sizeBytes,
      chain: [nbdImage(socketPath, `disk${index}`, sizeBytes)],
    })),
    close,
    lost: serving.then(
      () => undefined,
      () => undefined,
    ),
  };
}
