import type { Socket } from 'node:net';

/** So much may wait to be read before the client is made to wait. */
const HIGH_WATER_BYTES = 256 * 1024;

/** Reads exact byte counts from a client. One read at a time. */
export class RequestReader {
  readonly #socket: Socket;
  #buffer: Buffer = Buffer.alloc(0);
  #isOver = false;
  #wanted = 0;
  #resolve: ((bytes: Buffer | null) => void) | null = null;

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('data', (chunk: Buffer) => {
      this.#buffer = this.#buffer.length === 0 ? chunk : Buffer.concat([this.#buffer, chunk]);
      if (this.#buffer.length > HIGH_WATER_BYTES && this.#resolve === null) socket.pause();
      this.#deliver();
    });
    const end = () => {
      this.#isOver = true;
      this.#deliver();
    };
    socket.on('end', end).on('close', end);
  }

  /** @returns null when the client has gone before so many bytes came */
  read(length: number): Promise<Buffer | null> {
    return new Promise((resolve) => {
      this.#wanted = length;
      this.#resolve = resolve;
      this.#socket.resume();
      this.#deliver();
    });
  }

  #deliver(): void {
    const resolve = this.#resolve;
    if (resolve === null) return;
    const isThere = this.#buffer.length >= this.#wanted;
    if (!isThere && !this.#isOver) return;
    this.#resolve = null;
    resolve(isThere ? this.#buffer.subarray(0, this.#wanted) : null);
    if (isThere) this.#buffer = this.#buffer.subarray(this.#wanted);
  }
}
