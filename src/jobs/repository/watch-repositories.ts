import type { Catalog } from '../../catalog/catalog.ts';
import type { RepositoryRecord } from '../../catalog/repositories/repositories.ts';
import type { RepositoryKeeper } from './repository-keeper.ts';

interface WatchDeps {
  readonly catalog: Catalog;
  readonly keeper: RepositoryKeeper;
  readonly pollMs: number;
  /** After each look at one that is there. */
  readonly onSeen: (record: RepositoryRecord) => void;
}

/** Longer than `confirmSoon` waits, so that it only ends what hangs beyond that. */
const ANSWER_MS = 15_000;

/** Notices within seconds that a repository went away, and that it is back. */
export class RepositoryWatch implements AsyncDisposable {
  readonly #deps: WatchDeps;
  readonly #timer: NodeJS.Timeout;
  /** Id → since when. One look at a time: each that hangs keeps a thread. */
  readonly #looking = new Map<string, { readonly sinceMs: number; readonly done: Promise<void> }>();

  constructor(deps: WatchDeps) {
    this.#deps = deps;
    this.#timer = setInterval(() => this.#round(), deps.pollMs);
    this.#timer.unref();
  }

  #round(): void {
    for (const record of this.#deps.catalog.repositories.all()) {
      const looking = this.#looking.get(record.id);
      if (!looking) {
        const done = this.#look(record).finally(() => this.#looking.delete(record.id));
        this.#looking.set(record.id, { sinceMs: Date.now(), done });
      } else if (Date.now() - looking.sinceMs > ANSWER_MS && this.#isOpen(record.id))
        this.#deps.keeper.leave(record, 'its file system does not answer', true);
    }
  }

  async #look(record: RepositoryRecord): Promise<void> {
    await this.#deps.keeper.look(record);
    if (this.#isOpen(record.id)) this.#deps.onSeen(record);
  }

  #isOpen(id: string): boolean {
    return this.#deps.keeper.repositories.all().some((repository) => repository.id === id);
  }

  /** What hangs is not waited for. */
  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    const quick = [...this.#looking.values()].filter(({ sinceMs }) => Date.now() - sinceMs < ANSWER_MS);
    await Promise.allSettled(quick.map(({ done }) => done));
  }
}
