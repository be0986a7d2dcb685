import { Worker } from 'node:worker_threads';
import { programPart } from '../../base/own-files.ts';
import { SendenseError } from '../../base/sendense-error.ts';
import { BLOCK_BYTES } from '../../nbd/mover/rows/rows.ts';
import type { Codec } from './packed-block.ts';

/** More would only take the processor from the source and the network. */
const MAX_WORKERS = 2;

export interface SqueezeWork {
  readonly slots: SharedArrayBuffer;
  /** Of zstd. */
  readonly level: number;
}

export interface SqueezeTask {
  readonly id: number;
  readonly slot: number;
  readonly rawBytes: number;
}

export type SqueezeReply =
  | { readonly id: number; readonly codec: Codec; readonly storedBytes: number; readonly failure?: never }
  | { readonly id: number; readonly failure: string };

/** Content as it will be stored, before it is sealed. */
export interface Squeezed {
  readonly codec: Codec;
  readonly bytes: Buffer;
}

interface Waiting {
  readonly slot: Slot;
  readonly resolve: (squeezed: Squeezed) => void;
  readonly reject: (error: Error) => void;
}

/** Room for one block. */
export interface Slot {
  readonly index: number;
  /** As long as the block: its content, afterwards what is stored of it. */
  readonly content: Buffer;
}

/**
 * Compresses blocks in threads with heaps of their own, in shared slots. A megabyte of output for each block, made in
 * the main thread, had the collector of garbage look through the whole heap with all of the SDK in it several hundred
 * times for each GiB: a quarter of the CPU time of an upload.
 */
export class SqueezePool implements AsyncDisposable {
  readonly #level: number;
  readonly #slots: SharedArrayBuffer;
  readonly #bytes: Buffer;
  readonly #free: number[];
  readonly #workers: Worker[] = [];
  readonly #waiting = new Map<number, Waiting>();
  #nextId = 0;
  #failure: Error | null = null;

  /**
   * @param level of zstd; 0: content is left as it is
   * @param slotCount blocks that are under way at once, at most
   */
  constructor(level: number, slotCount: number) {
    this.#level = level;
    this.#slots = new SharedArrayBuffer(slotCount * BLOCK_BYTES);
    this.#bytes = Buffer.from(this.#slots);
    this.#free = Array.from({ length: slotCount }, (_, index) => index);
  }

  /** @param rawBytes at most `BLOCK_BYTES` */
  take(rawBytes: number): Slot {
    const index = rawBytes > BLOCK_BYTES ? undefined : this.#free.pop();
    if (index === undefined) throw new RangeError('no slot for this block');
    const at = index * BLOCK_BYTES;
    return { index, content: this.#bytes.subarray(at, at + rawBytes) };
  }

  /** What is in the slot is not needed any more. */
  give({ index }: Slot): void {
    this.#free.push(index);
  }

  /** @returns a view of the slot; good until it is given back */
  async squeeze(slot: Slot): Promise<Squeezed> {
    const { index, content } = slot;
    if (this.#level === 0) return { codec: 'raw', bytes: content };
    if (this.#failure) throw this.#failure;
    const id = this.#nextId;
    this.#nextId += 1;
    return await new Promise((resolve, reject) => {
      this.#waiting.set(id, { slot, resolve, reject });
      const task = { id, slot: index, rawBytes: content.length };
      this.#workerFor(id).postMessage(task satisfies SqueezeTask);
    });
  }

  /** Started when there is work for it: most restore points have little that is new. */
  #workerFor(id: number): Worker {
    const number = Math.min(id % MAX_WORKERS, this.#workers.length);
    const known = this.#workers[number];
    if (known) return known;
    const worker = new Worker(programPart('mirror/packs/squeeze-worker'), {
      workerData: { slots: this.#slots, level: this.#level } satisfies SqueezeWork,
      resourceLimits: { maxOldGenerationSizeMb: 32, maxYoungGenerationSizeMb: 4 },
    });
    worker.on('message', (reply: SqueezeReply) => this.#settle(reply));
    worker.on('error', (error: Error) => this.#failAll(error));
    this.#workers.push(worker);
    return worker;
  }

  #settle(reply: SqueezeReply): void {
    const waiting = this.#waiting.get(reply.id);
    this.#waiting.delete(reply.id);
    if (!waiting) return;
    if (reply.failure !== undefined) waiting.reject(new SendenseError('INTERNAL', { detail: reply.failure }));
    else
      waiting.resolve({
        codec: reply.codec,
        bytes: waiting.slot.content.subarray(0, reply.storedBytes),
      });
  }

  #failAll(error: Error): void {
    this.#failure = error;
    for (const waiting of this.#waiting.values()) waiting.reject(error);
    this.#waiting.clear();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.terminate()));
  }
}
