import type { NbdConnection } from '../../client/nbd-connection.ts';

/** Block status is asked for in ranges of this size, the protocol's requests being 32 bits. */
const STATUS_BYTES = 1024 ** 3;

interface Stretch {
  readonly end: number;
  readonly isSet: boolean;
}

/** One bit of block status along a disk, asked for in ascending order of places. */
export class StatusCursor {
  readonly #connection: NbdConnection;
  readonly #sizeBytes: number;
  readonly #bit: number;
  #stretches: Stretch[] = [];
  #known = 0;

  /** @param sizeBytes beyond it the bit is not set */
  constructor(connection: NbdConnection, sizeBytes: number, bit: number) {
    this.#connection = connection;
    this.#sizeBytes = sizeBytes;
    this.#bit = bit;
  }

  /** How far the bit stays as it is at `offset`, as far as one answer of the server tells. */
  async at(offset: number): Promise<Stretch> {
    if (offset >= this.#sizeBytes) return { end: Number.POSITIVE_INFINITY, isSet: false };
    if (this.#known <= offset) await this.#ask(offset);
    while ((this.#stretches[0]?.end ?? Number.POSITIVE_INFINITY) <= offset) this.#stretches.shift();
    return this.#stretches[0] ?? { end: this.#sizeBytes, isSet: true };
  }

  async #ask(offset: number): Promise<void> {
    const wanted = Math.min(STATUS_BYTES, this.#sizeBytes - offset);
    this.#stretches = [];
    let end = offset;
    for (const { length, flags } of await this.#connection.statusFlags(offset, wanted)) {
      // the last extent may reach beyond what was asked for
      end = Math.min(end + length, this.#sizeBytes);
      const isSet = (flags & this.#bit) !== 0;
      const last = this.#stretches.at(-1);
      if (last?.isSet === isSet) this.#stretches.pop();
      this.#stretches.push({ end, isSet });
    }
    this.#known = end;
  }
}
