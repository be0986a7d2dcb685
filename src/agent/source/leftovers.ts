import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import type { Logger } from '../../base/logger.ts';
import { messageOf } from '../../base/sendense-error.ts';
import type { LocalSources, MachineRef, SnapshotLeftover } from '../../capture/source.ts';

interface Entry {
  readonly snapshotId: string;
  readonly machine: MachineRef;
  readonly leftover: SnapshotLeftover;
}

/** What snapshots made at the source, on disk before it is made: an agent that was killed cleans up at its next start. */
export class Leftovers {
  readonly #file: string;
  readonly #logger: Logger;
  #entries: readonly Entry[] = [];

  constructor(file: string, logger: Logger) {
    this.#file = file;
    this.#logger = logger;
  }

  /** Of an earlier life. One that cannot be cleaned up now is tried again at the next start. */
  async cleanUp(sourceOf: LocalSources): Promise<void> {
    this.#entries = this.#read();
    for (const entry of this.#entries) {
      try {
        await sourceOf(entry.machine.source.kind).cleanUp(entry.machine, entry.leftover);
        this.#write(this.#entries.filter((one) => one !== entry));
      } catch (error) {
        this.#logger.error(
          { machine: entry.machine.name, error: messageOf(error) },
          'what a snapshot left at the source could not be removed',
        );
      }
    }
  }

  /** Synchronous: what it names is made right after. */
  add(snapshotId: string, machine: MachineRef, leftover: SnapshotLeftover): void {
    this.#write([...this.#entries, { snapshotId, machine, leftover }]);
  }

  async forget(snapshotId: string): Promise<void> {
    if (this.#entries.some((entry) => entry.snapshotId === snapshotId))
      this.#write(this.#entries.filter((entry) => entry.snapshotId !== snapshotId));
  }

  #read(): readonly Entry[] {
    try {
      return JSON.parse(readFileSync(this.#file, 'utf8')) as Entry[];
    } catch {
      return [];
    }
  }

  #write(entries: readonly Entry[]): void {
    this.#entries = entries;
    writeFileSync(`${this.#file}.tmp`, JSON.stringify(entries), { mode: 0o600, flush: true });
    renameSync(`${this.#file}.tmp`, this.#file);
  }
}
