import { randomUUID } from 'node:crypto';
import type { KeyRing } from '../crypto/key-ring.ts';
import { encodeFooter } from './pack-footer.ts';
import { type FramePlace, framePurpose, type PackedBlock } from './packed-block.ts';
import type { Squeezed } from './squeeze-pool.ts';

/** Few requests, and little lost when one has to be sent again. */
const PACK_BYTES = 20 * 1024 * 1024;
/** A frame that came last may go beyond; a row has 1 MiB. The footer comes on top. */
const SLACK_BYTES = 3 * 1024 * 1024;
/** What a pack is made in. */
export const PACK_BUFFER_BYTES = PACK_BYTES + SLACK_BYTES;
/** One pack in the making: frames one after the other, then a footer that lists them. */
export class PackWriter {
  readonly id = randomUUID();
  readonly blocks: PackedBlock[] = [];
  readonly #keys: KeyRing;
  /** Of `PACK_BUFFER_BYTES`; free for another pack when this one was sent. */
  readonly buffer: Buffer;
  #length = 0;

  constructor(keys: KeyRing, buffer: Buffer) {
    this.#keys = keys;
    this.buffer = buffer;
  }

  get isFull(): boolean {
    return this.#length >= PACK_BYTES;
  }

  add(b3: string, rawBytes: number, { codec, bytes }: Squeezed): FramePlace {
    const id = this.#keys.blockId(b3, rawBytes);
    const at = this.#length;
    const len = this.#keys.isEncrypted
      ? this.#keys.sealFrameInto(this.buffer, at, this.id, bytes, framePurpose(id, codec, rawBytes))
      : bytes.copy(this.buffer, at);
    const place = { at, len, codec };
    this.#length += len;
    this.blocks.push({ ...place, b3, rawBytes });
    return place;
  }

  /** The whole object; nothing may be added any more. */
  finish(): Buffer {
    const footer = encodeFooter(this.#keys, this.id, this.blocks);
    if (this.#length + footer.length > this.buffer.length)
      return Buffer.concat([this.buffer.subarray(0, this.#length), footer]);
    footer.copy(this.buffer, this.#length);
    return this.buffer.subarray(0, this.#length + footer.length);
  }
}
