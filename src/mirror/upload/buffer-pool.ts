/**
 * Buffers of one size that are used again and again. Made anew each time they would be more work for the collector of
 * garbage than what is done with them.
 */
export class BufferPool {
  readonly #sizeBytes: number;
  readonly #free: Buffer[] = [];

  constructor(sizeBytes: number) {
    this.#sizeBytes = sizeBytes;
  }

  /** What it holds is left over from somebody else. */
  take(): Buffer {
    return this.#free.pop() ?? Buffer.allocUnsafeSlow(this.#sizeBytes);
  }

  give(buffer: Buffer): void {
    this.#free.push(buffer);
  }
}
