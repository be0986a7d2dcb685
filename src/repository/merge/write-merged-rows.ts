import { join } from 'node:path';
import { blake3 } from '@napi-rs/blake-hash';
import type { Logger } from '../../base/logger.ts';
import { NbdConnection } from '../../nbd/client/nbd-connection.ts';
import { type MergedRow, mergeRows } from '../../nbd/mover/rows/merge-rows.ts';
import { BLOCK_BYTES, type Row, RowWriter, readRows } from '../../nbd/mover/rows/rows.ts';
import { readOnlyChain } from '../../qemu/block-graph.ts';
import { StorageDaemon } from '../../qemu/storage-daemon.ts';
import type { ChainLayer } from '../layers/layer-chain.ts';

interface RowsDeps {
  readonly logger: Logger;
  /** For the sockets of the tool that reads what no row tells; made and removed by it. */
  readonly workFolder: string;
}

/**
 * Writes the rows of several layers as those of one. Where a digest's block was overwritten in part, the block as it
 * is now is read and digested.
 * @param layers whose rows become one, newest first
 * @param chain everything that is needed to read `layers[0]`, newest first
 * @throws FORMAT_INVALID when a row file is damaged
 */
export async function writeMergedRows(
  deps: RowsDeps,
  layers: readonly ChainLayer[],
  chain: readonly ChainLayer[],
  path: string,
): Promise<void> {
  const writer = new RowWriter(path);
  await using guest = new LazyGuest(deps, chain);
  try {
    for await (const row of mergeRows(layers.map(({ rows }) => readRows(rows))))
      for (const known of await resolve(row, guest)) await writer.write(known);
    await writer.close();
  } catch (error) {
    await writer.abandon();
    throw error;
  }
}

async function resolve(row: MergedRow, guest: LazyGuest): Promise<Row[]> {
  if (!('unknown' in row)) return [row];
  const rows: Row[] = [];
  const end = row.offset + row.size;
  for (let offset = row.offset; offset < end; ) {
    // rows never cross a boundary of 1 MiB
    const next = Math.min(end, (Math.floor(offset / BLOCK_BYTES) + 1) * BLOCK_BYTES);
    const bytes = await guest.read(offset, next - offset);
    const isZero = bytes.every((byte) => byte === 0);
    const place = { offset, size: next - offset };
    rows.push(isZero ? { ...place, zero: true } : { ...place, b3: blake3(bytes).toString('hex') });
    offset = next;
  }
  return rows;
}

/** The guest's bytes of a chain; nothing is started before the first read. */
class LazyGuest implements AsyncDisposable {
  readonly #deps: RowsDeps;
  readonly #chain: readonly ChainLayer[];
  #opened: { daemon: StorageDaemon; connection: NbdConnection } | null = null;

  constructor(deps: RowsDeps, chain: readonly ChainLayer[]) {
    this.#deps = deps;
    this.#chain = chain;
  }

  async read(offset: number, length: number): Promise<Buffer> {
    this.#opened ??= await this.#open();
    const bytes = Buffer.alloc(length);
    await this.#opened.connection.read(offset, bytes);
    return bytes;
  }

  async #open() {
    const node = readOnlyChain(this.#chain.map(({ image }) => image));
    if (!node) throw new Error('an empty chain has no rows');
    const daemon = new StorageDaemon({
      logger: this.#deps.logger,
      folder: join(this.#deps.workFolder, 'rows'),
    });
    await daemon.start();
    try {
      await daemon.openImage('guest', node);
      await daemon.addExport('guest', 'guest', { type: 'nbd', exportName: 'guest', writable: false });
      const connection = await NbdConnection.connect({ socketPath: daemon.nbdSocket, exportName: 'guest' });
      return { daemon, connection };
    } catch (error) {
      await daemon.stop();
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#opened?.connection.close();
    await this.#opened?.daemon.stop();
  }
}
