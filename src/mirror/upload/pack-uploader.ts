import { SendenseError } from '../../base/sendense-error.ts';
import type { MirrorIndex, NewBlock } from '../../catalog/mirrors/mirror-index.ts';
import { layout } from '../layout.ts';
import type { Mirror } from '../mirror.ts';
import { PACK_BUFFER_BYTES, PackWriter } from '../packs/pack-writer.ts';
import { type Slot, type Squeezed, SqueezePool } from '../packs/squeeze-pool.ts';
import type { ObjectRetention } from '../store/object-store.ts';
import type { Pacer } from '../store/pacer.ts';
import { BufferPool } from './buffer-pool.ts';
import type { SyncProgress } from './sync-progress.ts';

/** With the one being filled this bounds the memory; more were not faster. */
const PACKS_IN_FLIGHT = 2;
/** Rows that are read and compressed at once; each has 1 MiB. */
const ROWS_IN_FLIGHT = 8;

export interface UploadSettings {
  /** Of zstd; 0: off. */
  readonly level: number;
  readonly retention: ObjectRetention | undefined;
}

interface UploaderDeps {
  readonly mirror: Mirror;
  readonly index: MirrorIndex;
  readonly settings: UploadSettings;
  readonly pacer: Pacer;
  readonly progress: SyncProgress;
  readonly signal: AbortSignal;
  /** Called when a pack is complete in the bucket. */
  readonly onPack: (packId: string) => Promise<void>;
}

/** Where a block lies. */
export interface BlockPlace {
  readonly packId: string;
  readonly at: number;
  readonly len: number;
  readonly codec: 'raw' | 'zstd';
}

interface Waiting {
  readonly b3: string;
  readonly rawBytes: number;
  readonly id: string;
  readonly squeezed: Promise<Squeezed>;
  /** Holds the content, then what was squeezed of it. */
  readonly slot: Slot;
  readonly done: (place: BlockPlace) => void;
}

/**
 * Puts blocks that the mirror has not got into packs and sends those. Blocks go into a pack in the order in which they
 * came, so that what lies together on a disk lies together in the bucket.
 */
export class PackUploader implements AsyncDisposable {
  readonly #deps: UploaderDeps;
  readonly #waiting: Waiting[] = [];
  /** Blocks on their way: in the queue or in a pack that is not complete in the bucket yet. */
  readonly #fresh = new Map<string, Promise<BlockPlace>>();
  readonly #sending = new Set<Promise<void>>();
  readonly #rows: SqueezePool;
  readonly #packBuffers = new BufferPool(PACK_BUFFER_BYTES);
  readonly #complete: string[] = [];
  #pack: PackWriter | null = null;
  #failure: unknown = null;

  constructor(deps: UploaderDeps) {
    this.#deps = deps;
    this.#rows = new SqueezePool(deps.settings.level, ROWS_IN_FLIGHT);
  }

  /**
   * @param read writes the content there; called only when the mirror has not got it
   * @returns where the block will lie; known after the next `drain`
   */
  async add(
    b3: string,
    rawBytes: number,
    read: (into: Buffer) => Promise<void>,
  ): Promise<{ readonly place: Promise<BlockPlace> }> {
    const { mirror, index, progress } = this.#deps;
    const idBytes = mirror.keys.blockId(b3, rawBytes);
    const known = index.find(idBytes);
    if (known) {
      progress.reusedBytes += rawBytes;
      return { place: Promise.resolve(known) };
    }
    const id = idBytes.toString('base64');
    const fresh = this.#fresh.get(id);
    if (fresh) {
      progress.reusedBytes += rawBytes;
      return { place: fresh };
    }
    while (this.#waiting.length >= ROWS_IN_FLIGHT) await this.#takeOne();
    const { promise, resolve } = Promise.withResolvers<BlockPlace>();
    const slot = this.#rows.take(rawBytes);
    const squeezed = read(slot.content).then(() => this.#rows.squeeze(slot));
    squeezed.catch(() => undefined); // told of in its turn
    this.#fresh.set(id, promise);
    this.#waiting.push({ b3, rawBytes, id, squeezed, slot, done: resolve });
    return { place: promise };
  }

  /** Packs that this one has made. */
  get complete(): readonly string[] {
    return this.#complete;
  }

  /** Everything that was added has its place afterwards. */
  async drain(): Promise<void> {
    while (this.#waiting.length > 0) await this.#takeOne();
  }

  /** Everything that was added is in the bucket afterwards. */
  async flush(): Promise<void> {
    await this.drain();
    if (this.#pack !== null) await this.#send(this.#pack);
    this.#pack = null;
    await Promise.all(this.#sending);
    this.#check();
  }

  /** Waits for what is under way, however it ends. */
  async abandon(): Promise<void> {
    await Promise.allSettled([...this.#waiting.map(({ squeezed }) => squeezed), ...this.#sending]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#rows[Symbol.asyncDispose]();
  }

  #check(): void {
    if (this.#failure !== null) throw this.#failure;
    if (this.#deps.signal.aborted) throw new SendenseError('CANCELLED');
  }

  async #takeOne(): Promise<void> {
    this.#check();
    const next = this.#waiting.shift();
    if (!next) return;
    const squeezed = await next.squeezed;
    this.#pack ??= new PackWriter(this.#deps.mirror.keys, this.#packBuffers.take());
    const place = this.#pack.add(next.b3, next.rawBytes, squeezed);
    this.#rows.give(next.slot);
    next.done({ packId: this.#pack.id, ...place });
    if (!this.#pack.isFull) return;
    const full = this.#pack;
    this.#pack = null;
    await this.#send(full);
  }

  async #send(pack: PackWriter): Promise<void> {
    while (this.#sending.size >= PACKS_IN_FLIGHT) await Promise.race(this.#sending);
    this.#check();
    const sending = this.#upload(pack)
      .catch((error: unknown) => {
        this.#failure ??= error;
      })
      .finally(() => this.#sending.delete(sending));
    this.#sending.add(sending);
  }

  async #upload(pack: PackWriter): Promise<void> {
    const { mirror, index, settings, pacer, progress, signal, onPack } = this.#deps;
    const body = pack.finish();
    await pacer.pace(body.length, signal);
    const { retention } = settings;
    await mirror.store.put(layout.pack(pack.id), body, { retention });
    this.#packBuffers.give(pack.buffer);
    const blocks: NewBlock[] = pack.blocks.map(({ b3, rawBytes, at, len, codec }) => ({
      id: mirror.keys.blockId(b3, rawBytes),
      at,
      len,
      codec,
    }));
    index.addPack(pack.id, blocks, retention?.until.toISOString() ?? null);
    for (const { id } of blocks) this.#fresh.delete(id.toString('base64'));
    progress.storedBytes += body.length;
    progress.packs += 1;
    this.#complete.push(pack.id);
    await onPack(pack.id);
  }
}
