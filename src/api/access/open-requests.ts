import type { Response } from 'express';
import type { AccessToken } from '../../catalog/tokens.ts';

/** What setTimeout can take, milliseconds. */
const MAX_TIMEOUT_MS = 2 ** 31 - 1;

/** Requests that are being answered, by token: streams and downloads end with the right to them. */
export class OpenRequests {
  readonly #open = new Map<string, Set<Response>>();

  add(token: AccessToken, response: Response, now: Date): void {
    const responses = this.#open.get(token.tokenId) ?? new Set();
    this.#open.set(token.tokenId, responses.add(response));
    const leftMs =
      token.expiresAt === null ? Number.POSITIVE_INFINITY : Date.parse(token.expiresAt) - now.getTime();
    const timer = leftMs <= MAX_TIMEOUT_MS ? setTimeout(() => response.destroy(), Math.max(leftMs, 0)) : null;
    timer?.unref();
    response.once('close', () => {
      if (timer !== null) clearTimeout(timer);
      responses.delete(response);
      if (responses.size === 0 && this.#open.get(token.tokenId) === responses)
        this.#open.delete(token.tokenId);
    });
  }

  /** Cuts the connections of all requests with this token. @returns how many */
  cut(tokenId: string): number {
    const responses = [...(this.#open.get(tokenId) ?? [])];
    for (const response of responses) response.destroy();
    return responses.length;
  }
}
