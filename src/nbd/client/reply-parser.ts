import {
  CHUNK_ERROR_BIT,
  CHUNK_FLAG_DONE,
  chunk,
  SIMPLE_REPLY_MAGIC,
  STRUCTURED_REPLY_MAGIC,
} from './protocol.ts';

/** What the parser needs to know of a request under way. */
export interface ReplyTarget {
  /** Where read data goes; null for requests that bring none. */
  readonly into: Uint8Array | null;
  readonly offset: number;
  /** Bytes of `into` that were told so far. */
  filledBytes: number;
  errno: number;
  statusBody: Buffer | null;
  complete(): void;
}

/** Largest chunk that is not read data: a block-status list or an error text. */
const MAX_SIDE_PAYLOAD_BYTES = 4 * 1024 * 1024;
/** Shorter rests are copied: reading them alone would cost a call of its own. */
const MIN_ROOM_BYTES = 16 * 1024;
const SIMPLE_HEADER_BYTES = 16;
const STRUCTURED_HEADER_BYTES = 20;

/**
 * Takes the byte stream of a server apart, whatever pieces it comes in. Read data is put straight into the buffer of
 * its request, by the socket itself where there is `room`.
 */
export class ReplyParser {
  readonly #targetOf: (cookie: number) => ReplyTarget | undefined;
  readonly #forget: (cookie: number) => void;
  readonly #header = Buffer.alloc(STRUCTURED_HEADER_BYTES);
  #headerFilled = 0;
  #target: ReplyTarget | null = null;
  #cookie = 0;
  #isLast = true;
  #chunkType: number = chunk.none;
  /** Bytes of data still to be copied to `#target.into` at `#dataPosition`. */
  #dataLeft = 0;
  #dataPosition = 0;
  /** Bytes of a small payload still to be collected. */
  #sideLeft = 0;
  #side: Buffer[] = [];

  constructor(targetOf: (cookie: number) => ReplyTarget | undefined, forget: (cookie: number) => void) {
    this.#targetOf = targetOf;
    this.#forget = forget;
  }

  /** @throws Error when the server breaks the protocol; the connection is then useless */
  feed(bytes: Buffer): void {
    let position = 0;
    while (position < bytes.length) {
      if (this.#dataLeft > 0) position += this.#takeData(bytes, position);
      else if (this.#sideLeft > 0) position += this.#takeSide(bytes, position);
      else position += this.#takeHeader(bytes, position);
    }
  }

  /** Where the data that come next belong; null when they are few, or none. */
  room(): Uint8Array | null {
    const into = this.#target?.into;
    if (!into || this.#dataLeft < MIN_ROOM_BYTES) return null;
    return into.subarray(this.#dataPosition, this.#dataPosition + this.#dataLeft);
  }

  /** So many bytes were put into that room. @throws as `feed` */
  filled(count: number): void {
    this.#advance(count);
  }

  #takeData(bytes: Buffer, position: number): number {
    const count = Math.min(bytes.length - position, this.#dataLeft);
    const into = this.#target?.into;
    if (!into) throw new Error('data for a request that wants none');
    into.set(bytes.subarray(position, position + count), this.#dataPosition);
    this.#advance(count);
    return count;
  }

  #advance(count: number): void {
    if (!this.#target) throw new Error('data for no request');
    this.#dataPosition += count;
    this.#dataLeft -= count;
    this.#target.filledBytes += count;
    if (this.#dataLeft === 0) this.#endOfChunk();
  }

  #takeSide(bytes: Buffer, position: number): number {
    const count = Math.min(bytes.length - position, this.#sideLeft);
    this.#side.push(Buffer.from(bytes.subarray(position, position + count)));
    this.#sideLeft -= count;
    if (this.#sideLeft === 0) {
      const body = Buffer.concat(this.#side);
      this.#side = [];
      this.#sidePayload(body);
    }
    return count;
  }

  #takeHeader(bytes: Buffer, position: number): number {
    const wanted =
      this.#headerFilled < 4
        ? 4
        : this.#header.readUInt32BE(0) === STRUCTURED_REPLY_MAGIC
          ? STRUCTURED_HEADER_BYTES
          : SIMPLE_HEADER_BYTES;
    const count = Math.min(bytes.length - position, wanted - this.#headerFilled);
    bytes.copy(this.#header, this.#headerFilled, position, position + count);
    this.#headerFilled += count;
    if (this.#headerFilled === wanted && wanted > 4) {
      this.#headerFilled = 0;
      if (wanted === SIMPLE_HEADER_BYTES) this.#simpleReply();
      else this.#structuredChunk();
    }
    return count;
  }

  #begin(cookie: number): ReplyTarget {
    const target = this.#targetOf(cookie);
    if (!target) throw new Error('a reply to no request');
    this.#target = target;
    this.#cookie = cookie;
    return target;
  }

  #simpleReply(): void {
    if (this.#header.readUInt32BE(0) !== SIMPLE_REPLY_MAGIC) throw new Error('bad reply magic');
    const target = this.#begin(this.#header.readUInt32BE(12));
    target.errno = this.#header.readUInt32BE(4);
    this.#isLast = true;
    if (target.errno === 0 && target.into) {
      this.#dataPosition = 0;
      this.#dataLeft = target.into.length;
    } else this.#endOfChunk();
  }

  #structuredChunk(): void {
    const target = this.#begin(this.#header.readUInt32BE(12));
    this.#isLast = (this.#header.readUInt16BE(4) & CHUNK_FLAG_DONE) !== 0;
    this.#chunkType = this.#header.readUInt16BE(6);
    const length = this.#header.readUInt32BE(16);
    if (this.#chunkType === chunk.offsetData) {
      if (!target.into || length < 8 || length - 8 > target.into.length)
        throw new Error('a data chunk of a wrong length');
      this.#dataPosition = -1; // known after the 8 bytes of offset
      this.#dataLeft = 0;
      this.#sideLeft = 8;
      this.#dataAfterSide = length - 8;
      return;
    }
    if (length > MAX_SIDE_PAYLOAD_BYTES) throw new Error('a reply chunk is too long');
    this.#sideLeft = length;
    if (length === 0) this.#endOfChunk();
  }

  #dataAfterSide = 0;

  #sidePayload(body: Buffer): void {
    const target = this.#target;
    if (!target) return;
    if (this.#chunkType === chunk.offsetData || this.#chunkType === chunk.offsetHole) {
      const start = Number(body.readBigUInt64BE(0)) - target.offset;
      const length = this.#chunkType === chunk.offsetData ? this.#dataAfterSide : body.readUInt32BE(8);
      if (!target.into || start < 0 || start + length > target.into.length)
        throw new Error('a data chunk outside its request');
      if (this.#chunkType === chunk.offsetData) {
        this.#dataPosition = start;
        this.#dataLeft = length;
        if (length > 0) return;
      } else {
        target.into.fill(0, start, start + length);
        target.filledBytes += length;
      }
    } else if (this.#chunkType === chunk.blockStatus) target.statusBody = body;
    else if ((this.#chunkType & CHUNK_ERROR_BIT) !== 0) target.errno = body.readUInt32BE(0) || 5;
    this.#endOfChunk();
  }

  #endOfChunk(): void {
    if (!this.#isLast) return;
    const target = this.#target;
    // what was left out would be whatever the buffer held before
    if (target?.into && target.errno === 0 && target.filledBytes !== target.into.length)
      throw new Error('an answer that leaves out bytes of its request');
    this.#target = null;
    this.#forget(this.#cookie);
    target?.complete();
  }
}
