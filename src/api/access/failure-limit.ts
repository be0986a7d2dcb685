import { isIPv6 } from 'node:net';

/** Wrong tokens of one address within the window, then it has to wait. A client that was told wrong needs some tries. */
const MAX_FAILURES = 10;
const WINDOW_MS = 60_000;
/** Addresses that are remembered: about a megabyte. The one that was quiet for longest is forgotten first. */
const MAX_ADDRESSES = 10_000;

interface Failures {
  count: number;
  untilMs: number;
}

/** An IPv6 host has 2^64 addresses of its own. Pure. */
export const networkOf = (address: string): string => {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  if (mapped !== undefined) return mapped;
  if (!isIPv6(address)) return address;
  const [head = '', tail = ''] = address.split('%')[0]?.split('::') ?? [];
  const before = head === '' ? [] : head.split(':');
  const after = tail === '' ? [] : tail.split(':');
  const missing = address.includes('::') ? 8 - before.length - after.length : 0;
  return [...before, ...Array<string>(Math.max(missing, 0)).fill('0'), ...after].slice(0, 4).join(':');
};

/** Counts wrong tokens for each address. */
export class FailureLimit {
  readonly #failures = new Map<string, Failures>();

  get size(): number {
    return this.#failures.size;
  }

  /** @returns for how many seconds nothing of this address is looked at; 0: it is */
  waitSeconds(address: string, now: Date): number {
    const known = this.#failures.get(networkOf(address));
    if (known === undefined || known.count < MAX_FAILURES || known.untilMs <= now.getTime()) return 0;
    return Math.ceil((known.untilMs - now.getTime()) / 1000);
  }

  failed(address: string, now: Date): void {
    const network = networkOf(address);
    const known = this.#failures.get(network);
    const goesOn = known !== undefined && known.untilMs > now.getTime();
    // anew at the end of the map: its first is the one that was quiet for longest
    this.#failures.delete(network);
    this.#failures.set(network, {
      count: goesOn ? known.count + 1 : 1,
      untilMs: goesOn ? known.untilMs : now.getTime() + WINDOW_MS,
    });
    const oldest = this.#failures.size > MAX_ADDRESSES ? this.#failures.keys().next().value : undefined;
    if (oldest !== undefined) this.#failures.delete(oldest);
  }
}
