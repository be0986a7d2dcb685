/** Something that may run when its limits have room. */
export interface QueuedTask {
  /** The greater goes first; of the same, who came first. */
  readonly priority: number;
  /** So many tasks with this key at once. */
  readonly limits: readonly { readonly key: string; readonly max: number }[];
  /** False outside the hours in which it may begin. */
  readonly mayBegin: () => boolean;
  /** @returns `again` to be asked once more later. Must not throw */
  readonly run: () => Promise<'done' | 'again'>;
}

interface Waiting extends QueuedTask {
  readonly order: number;
  notBeforeMs: number;
}

/** Soon enough after whoever was in the way has gone; a look costs next to nothing. */
const AGAIN_MS = 10_000;

/** Begins tasks by priority as their limits have room. The limits hold across all runs of all policies. */
export class TaskQueue {
  #waiting: Waiting[] = [];
  readonly #taken = new Map<string, number>();
  #running = 0;
  #order = 0;
  #timer: NodeJS.Timeout | null = null;
  #closed = false;

  get size(): number {
    return this.#waiting.length + this.#running;
  }

  add(tasks: readonly QueuedTask[]): void {
    for (const task of tasks) {
      this.#order += 1;
      this.#waiting.push({ ...task, order: this.#order, notBeforeMs: 0 });
    }
    this.#waiting.sort((a, b) => b.priority - a.priority || a.order - b.order);
    this.look();
  }

  /** Begins whatever may. */
  look(): void {
    if (this.#closed) return;
    const now = performance.now();
    this.#waiting = this.#waiting.filter((task) => {
      if (task.notBeforeMs > now || !this.#hasRoom(task) || !task.mayBegin()) return true;
      this.#begin(task);
      return false;
    });
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = this.#waiting.length === 0 ? null : setTimeout(() => this.look(), AGAIN_MS).unref();
  }

  /** Begins nothing any more; what runs is left to its own end. */
  close(): void {
    this.#closed = true;
    this.#waiting = [];
    if (this.#timer !== null) clearTimeout(this.#timer);
  }

  #hasRoom({ limits }: QueuedTask): boolean {
    return limits.every(({ key, max }) => (this.#taken.get(key) ?? 0) < max);
  }

  #begin(task: Waiting): void {
    const change = (by: number) => {
      this.#running += by;
      for (const { key } of task.limits) {
        const count = (this.#taken.get(key) ?? 0) + by;
        if (count === 0) this.#taken.delete(key);
        else this.#taken.set(key, count);
      }
    };
    change(1);
    void task.run().then((end) => {
      change(-1);
      if (end === 'again' && !this.#closed) {
        this.#waiting.push({ ...task, notBeforeMs: performance.now() + AGAIN_MS - 1 });
        this.#waiting.sort((a, b) => b.priority - a.priority || a.order - b.order);
      }
      this.look();
    });
  }
}
