import type { Logger } from '../../base/logger.ts';
import { messageOf } from '../../base/sendense-error.ts';

/** How hard to try: `force` also takes things away from programs that use them. */
export interface UndoOptions {
  readonly force: boolean;
}

type UndoStep = (options: UndoOptions) => Promise<void>;

/** What has been set up and must be taken down again, last first. */
export class UndoStack {
  readonly #steps: { readonly what: string; readonly step: UndoStep }[] = [];

  push(what: string, step: UndoStep): void {
    this.#steps.push({ what, step });
  }

  /** Stops at the first step that fails and keeps it, so that unwinding again goes on from there. */
  async unwind(options: UndoOptions): Promise<void> {
    for (let last = this.#steps.at(-1); last; last = this.#steps.at(-1)) {
      await last.step(options);
      this.#steps.pop();
    }
  }

  /** Takes everything down that can be taken down; for the way out after a failure that is already being reported. */
  async unwindAll(logger: Logger): Promise<void> {
    for (let last = this.#steps.pop(); last; last = this.#steps.pop()) {
      try {
        await last.step({ force: true });
      } catch (error) {
        logger.warn(
          { step: last.what, error: messageOf(error) },
          'part of a failed mount could not be undone',
        );
      }
    }
  }
}
