import type { Logger } from '../../base/logger.ts';
import { NbdConnection } from '../../nbd/client/nbd-connection.ts';
import { readOnlyChain } from '../../qemu/block-graph.ts';
import { StorageDaemon } from '../../qemu/storage-daemon.ts';

interface GuestReaderDeps {
  readonly logger: Logger;
  /** For the sockets of the tool; made and removed by it. */
  readonly workFolder: string;
}

/** What a guest sees of a chain, for as long as this is open. */
export class GuestReader implements AsyncDisposable {
  readonly connection: NbdConnection;
  readonly #daemon: StorageDaemon;

  private constructor(connection: NbdConnection, daemon: StorageDaemon) {
    this.connection = connection;
    this.#daemon = daemon;
  }

  /** @param images absolute paths, newest first, each checked */
  static async open(deps: GuestReaderDeps, images: readonly string[]): Promise<GuestReader> {
    const node = readOnlyChain(images);
    if (!node) throw new Error('an empty chain has no guest');
    const daemon = new StorageDaemon({ logger: deps.logger, folder: deps.workFolder });
    await daemon.start();
    try {
      await daemon.openImage('guest', node);
      await daemon.addExport('guest', 'guest', { type: 'nbd', exportName: 'guest', writable: false });
      const endpoint = { socketPath: daemon.nbdSocket, exportName: 'guest' };
      return new GuestReader(await NbdConnection.connect(endpoint, { wantAllocation: true }), daemon);
    } catch (error) {
      await daemon.stop();
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.connection.close();
    await this.#daemon.stop();
  }
}
