/** Contents of blocks, the last used ones, up to a number of bytes; also those that are on their way. */
export class BlockCache {
  readonly #limitBytes: number;
  readonly #blocks = new Map<string, Promise<Buffer>>();
  readonly #sizes = new Map<string, number>();
  #bytes = 0;

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  has(key: string): boolean {
    return this.#blocks.has(key);
  }

  /** @param fetch gives it when it is not here */
  async get(key: string, fetch: () => Promise<readonly Buffer[]>): Promise<Buffer> {
    const known = this.#blocks.get(key);
    if (known) {
      // used last
      this.#blocks.delete(key);
      this.#blocks.set(key, known);
      return await known;
    }
    const fetched = fetch().then(([content]) => content ?? Buffer.alloc(0));
    this.put(key, fetched);
    return await fetched;
  }

  put(key: string, content: Promise<Buffer>): void {
    this.#blocks.set(key, content);
    content.then(
      ({ length }) => {
        if (this.#blocks.get(key) !== content) return;
        this.#bytes += length;
        this.#sizes.set(key, length);
        this.#shrink();
      },
      // what failed is asked for again
      () => {
        if (this.#blocks.get(key) === content) this.#blocks.delete(key);
      },
    );
  }

  #shrink(): void {
    for (const [key] of this.#blocks) {
      if (this.#bytes <= this.#limitBytes) return;
      const size = this.#sizes.get(key);
      // one that is on its way has no size yet
      if (size === undefined) continue;
      this.#bytes -= size;
      this.#sizes.delete(key);
      this.#blocks.delete(key);
    }
  }
}
