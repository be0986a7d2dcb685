import { blake3 } from '@napi-rs/blake-hash';
import { SendenseError } from '../../base/sendense-error.ts';
import { NbdConnection } from '../../nbd/client/nbd-connection.ts';
import type { VisiblePart } from '../../repository/verify/visible-rows.ts';
import type { DiskInput } from './sync-task.ts';

interface ProvenRow {
  readonly layer: number;
  readonly offset: number;
  readonly content: Promise<Buffer>;
}

/** Reads what a disk shows at a restore point, and proves it by the digests of its rows. */
export class GuestBlocks implements AsyncDisposable {
  readonly #disk: DiskInput;
  readonly #connections = new Map<number, Promise<NbdConnection>>();
  /** A row that is hidden here and there is asked for in several parts. */
  #lastRow: ProvenRow | null = null;

  constructor(disk: DiskInput) {
    this.#disk = disk;
  }

  /**
   * What a row says that newer layers hide in part or not at all. The digest is of the whole row, as its own layer
   * shows it.
   * @throws LAYER_CORRUPT: nothing that is damaged goes into a mirror
   */
  async readPart({ layer, row, offset, size }: VisiblePart): Promise<Buffer> {
    if (row.zero) return Buffer.alloc(size);
    const isLast = this.#lastRow?.layer === layer && this.#lastRow.offset === row.offset;
    const proven =
      isLast && this.#lastRow
        ? this.#lastRow
        : { layer, offset: row.offset, content: this.#readRow(layer, row) };
    this.#lastRow = proven;
    const first = offset - row.offset;
    return Buffer.from((await proven.content).subarray(first, first + size));
  }

  /** @throws LAYER_CORRUPT */
  async readProven(offset: number, into: Buffer, b3: string, layer = 0): Promise<void> {
    await (await this.#connection(layer)).read(offset, into);
    if (blake3(into).toString('hex') === b3) return;
    throw new SendenseError('LAYER_CORRUPT', {
      layer: this.#disk.layers[layer]?.point ?? this.#disk.point,
      detail: `its content at byte ${offset} is not what its rows say`,
    });
  }

  async #readRow(layer: number, { offset, size, b3 }: { offset: number; size: number; b3: string }) {
    const content = Buffer.allocUnsafeSlow(size);
    await this.readProven(offset, content, b3, layer);
    return content;
  }

  #connection(layer: number): Promise<NbdConnection> {
    const known = this.#connections.get(layer);
    if (known) return known;
    const exportName = this.#disk.layers[layer]?.exportName ?? '';
    const opened = NbdConnection.connect({ socketPath: this.#disk.socketPath, exportName });
    this.#connections.set(layer, opened);
    return opened;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const opened of this.#connections.values()) await (await opened.catch(() => null))?.close();
  }
}
