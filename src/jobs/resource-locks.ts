import type { SendenseError } from '../base/sendense-error.ts';

interface Held {
  readonly holder: string;
  readonly exclusive: boolean;
}

/** One thing that must not change, or must not be used, meanwhile. */
export interface LockRequest {
  /** As in `vm:web1`, `disk:/srv/a.img`, `backup:backup-web1-…`. */
  readonly resource: string;
  readonly exclusive: boolean;
  /** What to throw when somebody else has it. */
  readonly busy: (holder: string) => SendenseError;
}

/** Locks that never wait: who comes second is told who is first. They live as long as the daemon. */
export class ResourceLocks {
  readonly #held = new Map<string, Set<Held>>();

  /**
   * Takes all or none.
   * @returns gives them back; repeating it is fine
   */
  acquire(holder: string, requests: readonly LockRequest[]): () => void {
    for (const request of requests) {
      for (const held of this.#held.get(request.resource) ?? []) {
        if (held.exclusive || request.exclusive) throw request.busy(held.holder);
      }
    }
    const taken = requests.map((request) => {
      const held: Held = { holder, exclusive: request.exclusive };
      const holders = this.#held.get(request.resource) ?? new Set();
      holders.add(held);
      this.#held.set(request.resource, holders);
      return { resource: request.resource, held };
    });
    return () => {
      for (const { resource, held } of taken.splice(0)) {
        const holders = this.#held.get(resource);
        holders?.delete(held);
        if (holders?.size === 0) this.#held.delete(resource);
      }
    };
  }
}
