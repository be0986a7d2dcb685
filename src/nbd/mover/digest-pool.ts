import { Worker } from 'node:worker_threads';
import { programPart } from '../../base/own-files.ts';
import { BLOCK_BYTES } from './rows/rows.ts';

/** Work on one slot: read it from a file when `fd` is given, then look at its content. */
export interface DigestTask {
  readonly id: number;
  readonly slot: number;
  readonly length: number;
  readonly fd: number | null;
  /** Where to read in the file. */
  readonly offset: number;
  /** Another slot to compare with, step by step. */
  readonly otherSlot: number | null;
}

export type DigestReply =
  | {
      readonly id: number;
      readonly zeroMask: number;
      readonly differenceMask: number;
      readonly digest: string | null;
      readonly failure?: never;
    }
  | { readonly id: number; readonly failure: { readonly errno: string | null; readonly message: string } };

export interface BlockContent {
  /** BLAKE3 in hex; null when the block is all zeros. */
  readonly digest: string | null;
  /** A bit for each 64 KiB step that is all zeros. */
  readonly zeroMask: number;
  /** A bit for each step that differs from the other slot. */
  readonly differenceMask: number;
}

/** Reading from the source failed; `errno` is null when it merely ended early. */
export class SlotReadError extends Error {
  readonly errno: string | null;

  constructor(errno: string | null, message: string) {
    super(message);
    this.errno = errno;
  }
}

/** Worker threads over shared slots of 1 MiB; the bytes never pass through a message. */
export class DigestPool implements AsyncDisposable {
  readonly #bytes: Buffer;
  readonly #workers: Worker[] = [];
  readonly #waiting = new Map<
    number,
    { resolve: (content: BlockContent) => void; reject: (error: Error) => void }
  >();
  #nextId = 1;

  constructor(slotCount: number, workerCount: number) {
    const slots = new SharedArrayBuffer(slotCount * BLOCK_BYTES);
    this.#bytes = Buffer.from(slots);
    for (let index = 0; index < workerCount; index += 1) {
      const worker = new Worker(programPart('nbd/mover/digest-worker'), {
        workerData: { slots },
        // the bytes are in shared slots; a worker's own heap stays tiny
        resourceLimits: { maxOldGenerationSizeMb: 32, maxYoungGenerationSizeMb: 4 },
      });
      worker.on('message', (reply: DigestReply) => this.#settle(reply));
      worker.on('error', (error: Error) => this.#failAll(error));
      this.#workers.push(worker);
    }
  }

  slot(index: number, length: number): Buffer {
    return this.#bytes.subarray(index * BLOCK_BYTES, index * BLOCK_BYTES + length);
  }

  /** Reads a block of a file into a slot and digests it. @throws SlotReadError */
  readFile(fd: number, offset: number, slot: number, length: number): Promise<BlockContent> {
    return this.#submit({ slot, length, fd, offset, otherSlot: null });
  }

  digest(slot: number, length: number): Promise<BlockContent> {
    return this.#submit({ slot, length, fd: null, offset: 0, otherSlot: null });
  }

  /** Digests `slot` and marks the steps in which it differs from `otherSlot`. */
  compare(slot: number, otherSlot: number, length: number): Promise<BlockContent> {
    return this.#submit({ slot, length, fd: null, offset: 0, otherSlot });
  }

  #submit(task: Omit<DigestTask, 'id'>): Promise<BlockContent> {
    const id = this.#nextId;
    this.#nextId += 1;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#workers[id % this.#workers.length]?.postMessage({ ...task, id } satisfies DigestTask);
    });
  }

  #settle(reply: DigestReply): void {
    const waiting = this.#waiting.get(reply.id);
    this.#waiting.delete(reply.id);
    if (reply.failure) waiting?.reject(new SlotReadError(reply.failure.errno, reply.failure.message));
    else waiting?.resolve(reply);
  }

  #failAll(error: Error): void {
    for (const waiting of this.#waiting.values()) waiting.reject(error);
    this.#waiting.clear();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.terminate()));
  }
}
