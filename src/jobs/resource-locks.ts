import type { SendenseError } from '../base/sendense-error.ts';

interface Held {
  readonly holder: string;
  readonly exclusive: boolean;
  /** Asks the holder to stop soon; null for one that will not. */
  readonly giveWay: (() => void) | null;
}

/** One thing that must not change, or must not be used, meanwhile. */
export interface LockRequest {
  /** As in `vm:ctx-web1-…`, `disk:/srv/a.img`, `backup:backup-web1-…`, `chain:<repository>/<context>`. */
  readonly resource: string;
  readonly exclusive: boolean;
  /** What to throw when somebody else has it. */
  readonly busy: (holder: string) => SendenseError;
}

interface WaitOptions {
  /** Ends the waiting. */
  readonly signal?: AbortSignal;
}

/**
 * Locks that live as long as the daemon. Who comes second is told who is first; only work in the background, such as
 * the shortening of a chain, is asked to give way, since it can go on later where it stopped.
 */
export class ResourceLocks {
  readonly #held = new Map<string, Set<Held>>();
  readonly #released = new Set<() => void>();

  /**
   * Takes all or none, at once.
   * @param giveWay called, perhaps more than once, when somebody who may go first wants one of these
   * @returns gives them back; repeating it is fine
   */
  acquire(holder: string, requests: readonly LockRequest[], giveWay: (() => void) | null = null): () => void {
    const [conflict] = this.#conflicts(requests);
    if (conflict) throw conflict.request.busy(conflict.held.holder);
    const taken = requests.map((request) => {
      const held: Held = { holder, exclusive: request.exclusive, giveWay };
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
      for (const wake of this.#released) wake();
    };
  }

  /**
   * Like `acquire`, but waits for holders that give way. Any other holder is reported at once.
   * @throws what `busy` makes; the signal's reason
   */
  async acquireSoon(
    holder: string,
    requests: readonly LockRequest[],
    options: WaitOptions = {},
  ): Promise<() => void> {
    for (;;) {
      options.signal?.throwIfAborted();
      const conflicts = this.#conflicts(requests);
      const stubborn = conflicts.find(({ held }) => held.giveWay === null);
      if (stubborn) throw stubborn.request.busy(stubborn.held.holder);
      if (conflicts.length === 0) return this.acquire(holder, requests);
      const released = this.#nextRelease(options.signal);
      for (const { held } of conflicts) held.giveWay?.();
      await released;
    }
  }

  #conflicts(requests: readonly LockRequest[]): { request: LockRequest; held: Held }[] {
    return requests.flatMap((request) =>
      [...(this.#held.get(request.resource) ?? [])]
        .filter((held) => held.exclusive || request.exclusive)
        .map((held) => ({ request, held })),
    );
  }

  #nextRelease(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve) => {
      const wake = () => {
        this.#released.delete(wake);
        signal?.removeEventListener('abort', wake);
        resolve();
      };
      this.#released.add(wake);
      signal?.addEventListener('abort', wake, { once: true });
    });
  }
}

/** All layers of one machine in one repository: shared by who reads, adds or deletes, exclusive for who merges. */
export const chainResource = (repositoryId: string, contextId: string) =>
  `chain:${repositoryId}/${contextId}`;

/** The list of restore points of one machine in one repository: exclusive for who deletes some. */
export const deletionResource = (repositoryId: string, contextId: string) =>
  `deletion:${repositoryId}/${contextId}`;
