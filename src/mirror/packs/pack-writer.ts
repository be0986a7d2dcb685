import { randomUUID } from 'node:crypto';
import { promisify } from 'node:util';
import { constants, zstdCompress } from 'node:zlib';
import type { KeyRing } from '../crypto/key-ring.ts';
import { encodeFooter } from './pack-footer.ts';
import { type Codec, type FramePlace, framePurpose, type PackedBlock } from './packed-block.ts';

const compress = promisify(zstdCompress);

/** Few requests, and little lost when one has to be sent again. */
const PACK_BYTES = 20 * 1024 * 1024;
/** A frame that came last may go beyond; a row has 1 MiB. The footer comes on top. */
const SLACK_BYTES = 3 * 1024 * 1024;
/** What a pack is made in. */
export const PACK_BUFFER_BYTES = PACK_BYTES + SLACK_BYTES;
/** What zstd adds at most to 1 MiB that cannot be compressed, and more. */
const ZSTD_MARGIN_BYTES = 16 * 1024;
/** Less gain than this is not worth the work of unpacking. */
const WORTH_IT = 0.97;

/** Content as it will be stored, before it is sealed. */
export interface Squeezed {
  readonly codec: Codec;
  readonly bytes: Buffer;
}

/** @param level of zstd; 0: not at all */
export async function squeeze(content: Buffer, level: number): Promise<Squeezed> {
  if (level === 0) return { codec: 'raw', bytes: content };
  const packed = await compress(content, {
    // in one piece: by default each 16 KiB would be a round through the event loop
    chunkSize: content.length + ZSTD_MARGIN_BYTES,
    params: { [constants.ZSTD_c_compressionLevel]: level },
  });
  return packed.length < content.length * WORTH_IT
    ? { codec: 'zstd', bytes: packed }
    : { codec: 'raw', bytes: content };
}

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
