import { randomBytes } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { setPriority } from 'node:os';
import { join } from 'node:path';
import type { Logger } from '../../base/logger.ts';
import { messageOf, SendenseError } from '../../base/sendense-error.ts';
import { NbdConnection } from '../../nbd/client/nbd-connection.ts';
import { NbdConnectionLost } from '../../nbd/client/protocol.ts';
import { nodeNames } from '../../nbd/exports/node-names.ts';
import { readOnlyChain } from '../../qemu/block-graph.ts';
import { StorageDaemon } from '../../qemu/storage-daemon.ts';

interface ViewsDeps {
  readonly logger: Logger;
  /** Sockets and log go into a new folder in here. */
  readonly runFolder: string;
  /** Let everybody else go first. */
  readonly isIdle: boolean;
}

/** The guest's bytes at one layer of a chain, read-only. */
export interface ChainView extends AsyncDisposable {
  readonly sizeBytes: number;
  /** Fills the buffer. @throws NbdReplyError when the image cannot be read there, EXPORT_LOST */
  read(offset: number, into: Uint8Array): Promise<void>;
  /** From `offset` on, perhaps for less than `length`: what is known to read as zeros. */
  zeroExtents(offset: number, length: number): Promise<readonly { length: number; zero: boolean }[]>;
  /** Ends every read under way with EXPORT_LOST. */
  abandon(): void;
}

/** Every thread of a storage daemon started later inherits it. */
const LOWEST_PRIORITY = 19;
export const viewsFolder = (runFolder: string) => join(runFolder, 'verify');

/** A storage daemon of its own that shows chains for reading; nothing it does can touch a backup under way. */
export class ChainViews implements AsyncDisposable {
  readonly #daemon: StorageDaemon;
  readonly #folder: string;

  private constructor(daemon: StorageDaemon, folder: string) {
    this.#daemon = daemon;
    this.#folder = folder;
  }

  static async start(deps: ViewsDeps): Promise<ChainViews> {
    const folder = join(viewsFolder(deps.runFolder), randomBytes(3).toString('hex'));
    const daemon = new StorageDaemon({ logger: deps.logger, folder });
    const views = new ChainViews(daemon, folder);
    try {
      await daemon.start();
      if (deps.isIdle && daemon.pid !== null) setPriority(daemon.pid, LOWEST_PRIORITY);
      return views;
    } catch (error) {
      await views[Symbol.asyncDispose]();
      throw error;
    }
  }

  /**
   * @param chain absolute paths of checked layers, newest first, the full last
   * @throws QMP_FAILED when the image cannot be opened, EXPORT_LOST
   */
  async open(chain: readonly string[]): Promise<ChainView> {
    const node = readOnlyChain(chain);
    if (node === null) throw new SendenseError('INTERNAL', { detail: 'a chain without layers' });
    const name = nodeNames.next();
    await this.#daemon.openImage(name, node);
    try {
      await this.#daemon.addExport(name, name, { type: 'nbd', exportName: name, writable: false });
      const connection = await NbdConnection.connect(
        { socketPath: this.#daemon.nbdSocket, exportName: name },
        { wantAllocation: true },
      );
      return this.#viewOf(connection, name);
    } catch (error) {
      await this.#daemon.closeImage(name).catch(() => undefined); // the first failure tells the story
      throw asLost(error);
    }
  }

  #viewOf(connection: NbdConnection, name: string): ChainView {
    return {
      sizeBytes: connection.sizeBytes,
      read: (offset, into) => connection.read(offset, into).catch(rethrowLost),
      zeroExtents: async (offset, length) =>
        connection.canReportStatus
          ? await connection.blockStatus(offset, length).catch(rethrowLost)
          : [{ length, zero: false }],
      abandon: () => connection.destroy(),
      [Symbol.asyncDispose]: async () => {
        await connection.close();
        await this.#daemon.closeImage(name);
      },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#daemon.stop();
    await rm(this.#folder, { recursive: true, force: true });
  }
}

function rethrowLost(error: unknown): never {
  throw asLost(error);
}

function asLost(error: unknown): unknown {
  if (!(error instanceof NbdConnectionLost)) return error;
  return new SendenseError('EXPORT_LOST', { export: 'of the verification', detail: messageOf(error) }, error);
}
