import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { emptyDir } from 'fs-extra/esm';
import type { Config } from '../../base/config/config-schema.ts';
import type { HomePaths } from '../../base/home/home-paths.ts';
import type { Logger } from '../../base/logger.ts';
import { run } from '../../base/process/run.ts';
import { messageOf } from '../../base/sendense-error.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import type { ExportBackend } from '../../nbd/exports/export-backend.ts';
import { NbdServer } from '../../nbd/exports/nbd-server.ts';
import { nbdServerBackend } from '../../nbd/exports/nbd-server-backend.ts';
import { storageDaemonBackend } from '../../nbd/exports/storage-daemon-backend.ts';
import { StorageDaemon } from '../../qemu/storage-daemon.ts';
import type { ToolVersions } from '../../qemu/tool-versions.ts';

interface ToolWiring {
  readonly catalog: Catalog;
  readonly config: Config;
  readonly logger: Logger;
  readonly paths: HomePaths;
  readonly versions: ToolVersions;
}

/** The long-lived programs that serve exports. */
export interface Tools {
  readonly daemon: StorageDaemon;
  readonly nbdServer: NbdServer;
  /** REST answers at once; the first export waits for the tools. */
  readonly exports: ExportBackend;
  /** The storage daemon's own, whatever was chosen. */
  readonly directExports: ExportBackend;
  /** Null while they run, or come up. */
  failure(): string | null;
  areReady(): boolean;
  stop(): Promise<void>;
}

/** Where layers appear as FUSE files. */
export const fuseFolderOf = (paths: HomePaths) => join(paths.runFolder, 'exports');

/** Starts qemu-storage-daemon, and nbd-server when it is wanted, in the background. */
export function wireTools({ catalog, config, logger, paths, versions }: ToolWiring): Tools {
  const notice = (kind: string, severity: 'warning' | 'error', message: string) =>
    catalog.events.add({ kind, severity, subject: null, message, data: {} });
  const daemon = new StorageDaemon({
    logger,
    folder: paths.runFolder,
    onRestart: (outcome) =>
      notice('storage_daemon.died', 'error', `qemu-storage-daemon died (${outcome}) and was started again.`),
  });
  const nbdServer = new NbdServer({
    logger,
    runFolder: join(paths.runFolder, 'nbd'),
    version: versions.nbdServer ?? [0, 0],
    onNotice: (kind, detail) =>
      notice(
        `nbd_server.${kind}`,
        'warning',
        kind === 'parent_died'
          ? `The nbd-server parent died (${detail}); a new one runs, transfers went on.`
          : `The file ${detail} in conf.d is broken and was renamed to .broken.`,
      ),
  });
  const isNbdServer = config.exports.backend === 'nbd-server';
  const ready = (async () => {
    await mkdir(join(paths.runFolder, 'nbd'), { recursive: true, mode: 0o750 });
    await Promise.all([daemon.start(), isNbdServer ? nbdServer.start() : null]);
  })();
  let failure: string | null = null;
  let isReady = false;
  ready.then(
    () => {
      isReady = true;
    },
    (error: unknown) => {
      failure = messageOf(error);
      logger.error({ error: failure }, 'a tool does not start');
    },
  );
  const chosen = isNbdServer
    ? nbdServerBackend({ daemon, server: nbdServer, fuseFolder: fuseFolderOf(paths) })
    : storageDaemonBackend(daemon);
  const whenReady = (backend: ExportBackend): ExportBackend => ({
    kind: backend.kind,
    open: async (layer) => {
      await ready;
      return await backend.open(layer);
    },
  });
  return {
    daemon,
    nbdServer,
    exports: whenReady(chosen),
    directExports: whenReady(storageDaemonBackend(daemon)),
    failure: () => failure,
    areReady: () => isReady,
    stop: async () => {
      await ready.catch(() => undefined);
      await nbdServer.stop();
      await daemon.stop();
    },
  };
}

/** What a daemon that was killed left mounted there. */
export async function clearExports(paths: HomePaths): Promise<void> {
  const folder = fuseFolderOf(paths);
  const mounts = await readFile('/proc/self/mountinfo', 'utf8');
  for (const line of mounts.split('\n')) {
    const place = (line.split(' ')[4] ?? '').replaceAll('\\040', ' ');
    if (place.startsWith(`${folder}/`)) await run('umount', ['-l', place], { okExitCodes: [0, 1, 32] });
  }
  await emptyDir(folder);
}
