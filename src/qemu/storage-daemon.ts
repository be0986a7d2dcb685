import { existsSync } from 'node:fs';
import { mkdir, rm, stat, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pLimit from 'p-limit';
import type { Logger } from '../base/logger.ts';
import { run } from '../base/process/run.ts';
import { type RunningDaemon, startDaemon } from '../base/process/start-daemon.ts';
import { transferHeap } from '../base/process/transfer-heap.ts';
import { errnoOf, hasCode, messageOf, SendenseError } from '../base/sendense-error.ts';
import type { ImageNode } from './block-graph.ts';
import { fuseUnavailable } from './fuse-unavailable.ts';
import { QmpClient } from './qmp-client.ts';

/** FUSE_SUPER_MAGIC, linux/magic.h. */
const FUSE_MAGIC = 0x65735546;
const EXPORT_DELETE_TIMEOUT_MS = 30_000;
const RESTART_DELAY_MS = 200;

/** How an image node is shown to others. */
export type ExportView =
  | { readonly type: 'nbd'; readonly exportName: string; readonly writable: boolean }
  | { readonly type: 'fuse'; readonly mountpoint: string; readonly writable: boolean };

interface OpenImage {
  readonly node: ImageNode;
  /** Export id → view. */
  readonly exports: Map<string, ExportView>;
}

interface StorageDaemonDeps {
  readonly logger: Logger;
  /** Folder for its sockets and log; made when absent. */
  readonly folder: string;
  /** Where NBD is served; default: the unix socket in the folder. As the option --nbd-server takes it. */
  readonly nbdServer?: string;
  /** Objects that it needs, as in `tls-creds-psk,…`. */
  readonly objects?: readonly string[];
  /** Told each time it serves, also after a restart. */
  readonly onServing?: () => Promise<void>;
  /**
   * False: one that died stays dead. For who must not read through files that were opened at another time than the others.
   */
  readonly isRestarted?: boolean;
  /** Told after the process died and everything was opened anew, or will not be. */
  readonly onRestart?: (outcome: string) => void;
}

/**
 * One qemu-storage-daemon, driven over QMP. When the process dies it is started again and every image and
 * export is opened as before, so that writers can reconnect and replay what was not flushed.
 */
export class StorageDaemon implements AsyncDisposable {
  readonly nbdSocket: string;
  readonly #deps: StorageDaemonDeps;
  readonly #images = new Map<string, OpenImage>();
  /** One operation at a time: QMP itself is serial, and a restart must not interleave. */
  readonly #serial = pLimit(1);
  #process: RunningDaemon | null = null;
  #monitor: QmpClient | null = null;
  #stopping = false;
  #isDead = false;

  constructor(deps: StorageDaemonDeps) {
    this.#deps = deps;
    this.nbdSocket = join(deps.folder, 'qsd-nbd.sock');
  }

  get pid(): number | null {
    return this.#process?.pid ?? null;
  }

  start(): Promise<void> {
    return this.#serial(() => this.#launch());
  }

  /**
   * Opens an image under a name of ours (at most 31 characters, QEMU's limit for node names).
   * @throws QMP_FAILED
   */
  openImage(name: string, node: ImageNode): Promise<void> {
    return this.#serial(async () => {
      await this.#execute('blockdev-add', { ...node, 'node-name': name });
      this.#images.set(name, { node, exports: new Map() });
    });
  }

  addExport(name: string, exportId: string, view: ExportView): Promise<void> {
    return this.#serial(async () => {
      const image = this.#images.get(name);
      if (!image) throw new SendenseError('INTERNAL', { detail: `no open image ${name}` });
      await this.#addExport(name, exportId, view);
      image.exports.set(exportId, view);
    });
  }

  /**
   * Ends all exports of the image, flushes and closes it. Repeating it is fine.
   * @param onlyIdle leave everything as it is when a client is connected
   * @throws QMP_FAILED, with `onlyIdle` while it is in use
   */
  closeImage(name: string, { onlyIdle = false } = {}): Promise<void> {
    return this.#serial(async () => {
      const image = this.#images.get(name);
      if (!image) return;
      if (onlyIdle)
        for (const [exportId, view] of image.exports) {
          await this.#removeExport(exportId, view, 'safe');
          image.exports.delete(exportId);
        }
      // forgotten first: a restart in the middle of this must not open it again
      this.#images.delete(name);
      if (this.#isDead) {
        for (const view of image.exports.values()) await clearMountpoint(view);
        return;
      }
      for (const [exportId, view] of image.exports) await this.#removeExport(exportId, view);
      await this.#execute('blockdev-del', { 'node-name': name });
    });
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#serial(async () => {
      await this.#process?.stop();
      await this.#monitor?.[Symbol.asyncDispose]();
      for (const view of this.#allViews()) await clearMountpoint(view);
      await rm(this.nbdSocket, { force: true });
    });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  *#allViews(): Iterable<ExportView> {
    for (const image of this.#images.values()) yield* image.exports.values();
  }

  async #launch(): Promise<void> {
    const { folder } = this.#deps;
    await mkdir(folder, { recursive: true, mode: 0o750 });
    const monitorSocket = join(folder, 'qmp.sock');
    await rm(monitorSocket, { force: true });
    await rm(this.nbdSocket, { force: true });
    const monitor: QmpClient[] = [];
    const daemon = await startDaemon(
      'qemu-storage-daemon',
      [
        '--chardev',
        `socket,path=${escapeComma(monitorSocket)},server=on,wait=off,id=monitor`,
        '--monitor',
        'chardev=monitor',
        ...(this.#deps.objects ?? []).flatMap((object) => ['--object', object]),
        '--nbd-server',
        `${this.#deps.nbdServer ?? `addr.type=unix,addr.path=${escapeComma(this.nbdSocket)}`},max-connections=0`,
      ],
      {
        logFile: join(folder, 'qsd.log'),
        env: transferHeap,
        readyWhen: async () => {
          if (!existsSync(monitorSocket)) return false;
          const client = await QmpClient.connect(monitorSocket).catch(() => null);
          if (client) monitor.push(client);
          return client !== null;
        },
      },
    );
    this.#process = daemon;
    this.#monitor = monitor[0] ?? null;
    void daemon.exited.then((outcome) => this.#restartAfter(daemon, outcome));
    await this.#deps.onServing?.();
  }

  async #restartAfter(daemon: RunningDaemon, outcome: string): Promise<void> {
    if (this.#stopping || this.#process !== daemon) return;
    if (this.#deps.isRestarted === false) {
      this.#deps.logger.error({ outcome, pid: daemon.pid }, 'qemu-storage-daemon died');
      this.#isDead = true;
      this.#deps.onRestart?.(outcome);
      return;
    }
    this.#deps.logger.error({ outcome, pid: daemon.pid }, 'qemu-storage-daemon died; starting it again');
    await this.#serial(async () => {
      while (!this.#stopping) {
        try {
          await this.#reopenAll();
          break;
        } catch (error) {
          this.#deps.logger.error(
            { error: messageOf(error) },
            'qemu-storage-daemon does not start; trying again',
          );
          await sleep(RESTART_DELAY_MS);
        }
      }
    });
    if (!this.#stopping) this.#deps.onRestart?.(outcome);
  }

  async #reopenAll(): Promise<void> {
    for (const view of this.#allViews()) await clearMountpoint(view);
    await this.#launch();
    for (const [name, image] of this.#images) {
      try {
        await this.#execute('blockdev-add', { ...image.node, 'node-name': name });
        for (const [exportId, view] of image.exports) await this.#addExport(name, exportId, view);
      } catch (error) {
        // one image that cannot be opened again must not keep the others away; its writer fails by itself
        this.#deps.logger.error({ image: name, error: messageOf(error) }, 'image could not be opened again');
      }
    }
  }

  async #addExport(name: string, id: string, view: ExportView): Promise<void> {
    if (view.type === 'nbd') {
      await this.#execute('block-export-add', {
        type: 'nbd',
        id,
        'node-name': name,
        name: view.exportName,
        writable: view.writable,
      });
      return;
    }
    await writeFile(view.mountpoint, '', { flag: 'a', mode: 0o600 });
    await this.#execute('block-export-add', {
      type: 'fuse',
      id,
      'node-name': name,
      mountpoint: view.mountpoint,
      writable: view.writable,
      growable: false,
      // root's loop devices must be able to read the file of another user
      'allow-other': process.getuid?.() === 0 ? 'off' : 'auto',
    }).catch(async (error: unknown) => {
      throw hasCode(error, 'QMP_FAILED') ? await fuseUnavailable(error) : error;
    });
    await checkFuse(view.mountpoint);
  }

  async #removeExport(id: string, view: ExportView, mode: 'hard' | 'safe' = 'hard'): Promise<void> {
    const monitor = this.#monitor;
    if (!monitor) return;
    const deleted = monitor.waitForEvent('BLOCK_EXPORT_DELETED', 'id', id, EXPORT_DELETE_TIMEOUT_MS);
    deleted.catch(() => undefined);
    await this.#execute('block-export-del', { id, mode });
    await deleted;
    await clearMountpoint(view);
  }

  async #execute(command: string, args: object): Promise<unknown> {
    if (!this.#monitor) throw new SendenseError('QMP_FAILED', { command, detail: 'it does not run' });
    return await this.#monitor.execute(command, args);
  }
}

/** QEMU's key=value syntax doubles commas inside values. */
export const escapeComma = (text: string) => text.replaceAll(',', ',,');

/** Writes would land in the ordinary file below if FUSE were not there. */
async function checkFuse(mountpoint: string): Promise<void> {
  const type = (await statfs(mountpoint)).type;
  if (type !== FUSE_MAGIC)
    throw new SendenseError('EXPORT_FAILED', { export: mountpoint, detail: 'the FUSE file is not mounted' });
}

/** Unmounts what a dead daemon left and removes the file, so that a late client finds nothing to write to. */
async function clearMountpoint(view: ExportView): Promise<void> {
  if (view.type !== 'fuse') return;
  const isStale = await stat(view.mountpoint).then(
    () => false,
    (error: unknown) => errnoOf(error) === 'ENOTCONN',
  );
  if (isStale || (await isFuse(view.mountpoint))) {
    await run('umount', ['-l', view.mountpoint], { okExitCodes: [0, 1, 32] }).catch(
      async (error: unknown) => {
        // without root only fusermount3 may do it
        if (!hasCode(error, 'TOOL_FAILED')) throw error;
      },
    );
    if (await isFuse(view.mountpoint))
      await run('fusermount3', ['-uz', view.mountpoint], { okExitCodes: [0, 1] });
  }
  await rm(view.mountpoint, { force: true });
}

async function isFuse(path: string): Promise<boolean> {
  return await statfs(path).then(
    (info) => info.type === FUSE_MAGIC,
    () => false,
  );
}
