import { hasCode } from '../../../base/sendense-error.ts';
import type { Snapshot } from '../../../capture/source.ts';
import type { JobContext } from '../../job-work.ts';

/** Whether a backup that the end of the daemon interrupts is left as it is, for the next one to go on with. */
export class Suspension {
  readonly #signal: AbortSignal;
  #isPossible = false;
  #isWorthIt: (() => Promise<boolean>) | null = null;

  constructor({ signal }: Pick<JobContext, 'signal'>) {
    this.#signal = signal;
  }

  /** All that the next daemon needs is in the journal. */
  becomesPossible({ isStillSame }: Pick<Snapshot, 'isStillSame'>): void {
    this.#isPossible = true;
    this.#isWorthIt = isStillSame ?? null;
  }

  /** From now on the work is done again or not at all. */
  ends(): void {
    this.#isPossible = false;
  }

  get isPossible(): boolean {
    return this.#isPossible;
  }

  /** The daemon ends: what is there stays, unless it is known already that nobody can go on with it. */
  async stays(): Promise<boolean> {
    const isEnding = this.#signal.aborted && hasCode(this.#signal.reason, 'INTERRUPTED');
    if (!this.#isPossible || !isEnding) return false;
    this.#isPossible = (await this.#isWorthIt?.().catch(() => false)) ?? true;
    return this.#isPossible;
  }
}
