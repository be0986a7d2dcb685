import { blake3 } from '@napi-rs/blake-hash';
import { SendenseError } from '../../base/sendense-error.ts';
import { NbdConnection } from '../../nbd/client/nbd-connection.ts';
import type { DiskInput } from './sync-task.ts';

/** Reads what a disk shows at a restore point, and proves it by the digests of its rows. */
export class GuestBlocks implements AsyncDisposable {
  readonly #disk: DiskInput;
  #connection: Promise<NbdConnection> | null = null;

  constructor(disk: DiskInput) {
    this.#disk = disk;
  }

  async read(offset: number, size: number): Promise<Buffer> {
    const { socketPath, exportName } = this.#disk.export;
    this.#connection ??= NbdConnection.connect({ socketPath, exportName });
    const content = Buffer.allocUnsafeSlow(size);
    await (await this.#connection).read(offset, content);
    return content;
  }

  /** @throws LAYER_CORRUPT: nothing that is damaged goes into a mirror */
  async readProven(offset: number, size: number, b3: string): Promise<Buffer> {
    const content = await this.read(offset, size);
    if (blake3(content).toString('hex') !== b3) throw this.differs(offset);
    return content;
  }

  differs(offset: number): SendenseError {
    return new SendenseError('LAYER_CORRUPT', {
      layer: this.#disk.point,
      detail: `its content at byte ${offset} is not what its rows say`,
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await (await this.#connection?.catch(() => null))?.close();
  }
}
