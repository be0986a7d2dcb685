import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { SendenseError } from '../../base/sendense-error.ts';

/** Somebody else's use of a port ends in seconds, or not at all. */
const ROUNDS = 3;

/** Ports for exports. One is never given to two transfers, and not again at once: somebody may still know the old one. */
export class DataPorts {
  readonly #range: { readonly first: number; readonly last: number } | null;
  readonly #taken = new Set<number>();
  #next: number;

  /** @param range `any`, or `7500-7563` */
  constructor(range: string) {
    const [, first, last] = /^(\d+)-(\d+)$/.exec(range) ?? [];
    this.#range = first === undefined ? null : { first: Number(first), last: Number(last) };
    this.#next = this.#range?.first ?? 0;
  }

  /** @param anyPort not from the range, which is for those that a firewall must know. @throws LIMIT_REACHED */
  async take(host: string, anyPort: boolean): Promise<{ port: number; release: () => void }> {
    const range = anyPort ? null : this.#range;
    const count = range === null ? 100 : range.last - range.first + 1;
    for (let round = 0; round < ROUNDS; round += 1) {
      for (let tries = 0; tries < count; tries += 1) {
        const port = await freePort(host, range === null ? 0 : this.#following(range));
        if (port === null || this.#taken.has(port)) continue;
        this.#taken.add(port);
        return { port, release: () => void this.#taken.delete(port) };
      }
      await sleep(200);
    }
    throw new SendenseError('LIMIT_REACHED', { what: 'transfers over TLS', limit: count });
  }

  #following({ first, last }: { first: number; last: number }): number {
    const port = this.#next;
    this.#next = port >= last ? first : port + 1;
    return port;
  }
}

/** @param wanted 0: any. @returns null when it is in use */
function freePort(host: string, wanted: number): Promise<number | null> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(null));
    server.listen({ host, port: wanted }, () => {
      const address = server.address();
      const port = typeof address === 'object' && address !== null ? address.port : null;
      server.close(() => resolve(port));
    });
  });
}
