import type { JobProgress } from '../../../catalog/jobs.ts';
import type { MoveProgress } from '../../../nbd/mover/move-deps.ts';

/** Adds up the disks of one machine into one progress with rate and time left. */
export class TransferProgress {
  readonly #totalBytes: number;
  readonly #startedMs: number;
  #doneProcessed = 0;
  #doneTransferred = 0;
  #current: MoveProgress = { processedBytes: 0, readBytes: 0, writtenBytes: 0, reconnects: 0 };

  /** @param totalBytes virtual sizes of all disks */
  constructor(totalBytes: number, startedMs: number) {
    this.#totalBytes = totalBytes;
    this.#startedMs = startedMs;
  }

  update(current: MoveProgress): void {
    this.#current = current;
  }

  diskDone(): void {
    this.#doneProcessed += this.#current.processedBytes;
    this.#doneTransferred += this.#current.writtenBytes;
    this.#current = { processedBytes: 0, readBytes: 0, writtenBytes: 0, reconnects: 0 };
  }

  report(nowMs: number): JobProgress {
    const processedBytes = Math.min(this.#doneProcessed + this.#current.processedBytes, this.#totalBytes);
    const seconds = (nowMs - this.#startedMs) / 1000;
    const bytesPerSecond = seconds > 0 ? Math.round(processedBytes / seconds) : 0;
    const left = this.#totalBytes - processedBytes;
    return {
      totalBytes: this.#totalBytes,
      processedBytes,
      transferredBytes: this.#doneTransferred + this.#current.writtenBytes,
      bytesPerSecond,
      etaSeconds: bytesPerSecond > 0 ? Math.ceil(left / bytesPerSecond) : null,
    };
  }
}
