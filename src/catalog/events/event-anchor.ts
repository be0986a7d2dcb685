import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { writeJsonDurably } from '../../base/durable-file.ts';
import { errnoOf } from '../../base/sendense-error.ts';
import type { Anchor } from './event-chain.ts';

/** Many rows come together; the file is written once for them. */
const DELAY_MS = 200;

/**
 * Beside the catalogue: how far its log had got. It is written after the rows are safe on disk, so it never says more
 * than there was; what was written in the last moments before a crash may be missing in it.
 */
export class EventAnchor {
  readonly #file: string | null;
  readonly #head: () => Anchor | null;
  #timer: NodeJS.Timeout | null = null;
  #writing: Promise<void> = Promise.resolve();

  constructor(file: string | null, head: () => Anchor | null) {
    this.#file = file;
    this.#head = head;
  }

  /** Null: none, or no anchor. */
  read(): Anchor | null {
    if (this.#file === null) return null;
    try {
      const { id, hash, at } = JSON.parse(readFileSync(this.#file, 'utf8')) as Anchor;
      return typeof id === 'number' && typeof hash === 'string' ? { id, hash, at } : null;
    } catch (error) {
      if (errnoOf(error) === 'ENOENT' || error instanceof SyntaxError) return null;
      throw error;
    }
  }

  /** Rows were added, perhaps in a transaction that is not over: it is when the timer rings. */
  moved(): void {
    const file = this.#file;
    if (this.#timer !== null || file === null) return;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      const head = this.#head();
      // a full disk must not end the daemon: the next row tries again
      if (head !== null)
        this.#writing = this.#writing.then(() => writeJsonDurably(file, head)).catch(() => undefined);
    }, DELAY_MS);
    this.#timer.unref();
  }

  /** What does not fit to the log any more is kept for who looks into it. */
  putAside(at: Date): void {
    if (this.#file === null) return;
    try {
      renameSync(this.#file, `${this.#file}.${at.toISOString().replaceAll(/[:.]/g, '-')}`);
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw error;
    }
  }

  /** At the end of the daemon: nothing is awaited any more. */
  close(): void {
    if (this.#timer === null || this.#file === null) return;
    clearTimeout(this.#timer);
    const head = this.#head();
    try {
      if (head !== null) {
        writeFileSync(`${this.#file}.last`, `${JSON.stringify(head, null, 2)}\n`);
        renameSync(`${this.#file}.last`, this.#file);
      }
    } catch {
      // it stays a little behind, as after a crash
    }
  }
}
