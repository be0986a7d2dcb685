import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Logger } from '../../base/logger.ts';
import { hasCode, messageOf } from '../../base/sendense-error.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import { chainMembers } from '../../catalog/points/record-backup.ts';
import { compressionOf } from '../../repository/open-repository.ts';
import type { Repositories } from '../repository/repositories.ts';
import { isConsolidationDue } from './is-consolidation-due.ts';
import type { MachinePlace } from './retire-backup.ts';
import { type ConsolidateWishes, type StartConsolidateDeps, startConsolidate } from './start-consolidate.ts';

/** What was postponed is tried again after this time. */
const RETRY_MS = 60_000;
/** A chain that was just changed is left alone so long: the next command may want it. */
const SETTLE_MS = 500;

interface KeeperDeps {
  readonly start: StartConsolidateDeps;
  readonly catalog: Catalog;
  readonly repositories: Repositories;
  readonly logger: Logger;
  readonly options: ConsolidateWishes;
  readonly isEnabled: boolean;
}

/** To be called after something was added to or deleted from the chains of a machine. */
export type ChainsChanged = (contextId: string, repositoryId: string) => void;

/** Keeps chains short by itself: starts a consolidation where one is due, and again where it had to give way. */
export class ChainKeeper {
  readonly #deps: KeeperDeps;
  readonly #timers = new Map<string, { readonly timer: NodeJS.Timeout; readonly dueMs: number }>();
  #closed = false;

  constructor(deps: KeeperDeps) {
    this.#deps = deps;
  }

  /** At start: everything that a daemon before us left to do. */
  async lookAtAll(): Promise<void> {
    const { catalog, options } = this.#deps;
    if (!this.#deps.isEnabled) return;
    for (const { contextId, repositoryId } of catalog.chains.overdue(options.maxDepth)) {
      if (this.#closed) return;
      if (this.#isDue(contextId, repositoryId)) this.#beginLater(contextId, repositoryId, SETTLE_MS);
      await nextTurn(); // there may be thousands
    }
  }

  /** Something was added to or deleted from the chains of a machine. */
  changed(contextId: string, repositoryId: string, delayMs = SETTLE_MS): void {
    if (this.#closed || !this.#deps.isEnabled) return;
    if (this.#isDue(contextId, repositoryId)) this.#beginLater(contextId, repositoryId, delayMs);
    else if (delayMs === SETTLE_MS) void this.#compressLater(contextId, repositoryId);
  }

  /** A new layer is compressed where the repository wants that. */
  async #compressLater(contextId: string, repositoryId: string): Promise<void> {
    const place = this.#placeOf(contextId, repositoryId);
    // one that cannot be asked now is away
    const compression = place ? await compressionOf(place.repository).catch(() => 'none') : 'none';
    if (compression !== 'none' && !this.#closed) this.#beginLater(contextId, repositoryId, SETTLE_MS);
  }

  #beginLater(contextId: string, repositoryId: string, delayMs: number): void {
    const key = `${repositoryId}/${contextId}`;
    const dueMs = Date.now() + delayMs;
    const waiting = this.#timers.get(key);
    // what was in the way when it was put off has perhaps just ended
    if (waiting && waiting.dueMs <= dueMs) return;
    clearTimeout(waiting?.timer);
    const timer = setTimeout(() => {
      this.#timers.delete(key);
      this.#begin(contextId, repositoryId);
    }, delayMs);
    timer.unref();
    this.#timers.set(key, { timer, dueMs });
  }

  close(): void {
    this.#closed = true;
    for (const { timer } of this.#timers.values()) clearTimeout(timer);
    this.#timers.clear();
  }

  #isDue(contextId: string, repositoryId: string): boolean {
    const members = chainMembers(this.#deps.catalog, contextId, repositoryId);
    return isConsolidationDue(members, this.#deps.options.maxDepth);
  }

  #begin(contextId: string, repositoryId: string): void {
    const place = this.#placeOf(contextId, repositoryId);
    if (this.#closed || place === null) return;
    try {
      startConsolidate(this.#deps.start, place, this.#deps.options, (job, outcome) => {
        const isOver = outcome !== null && outcome.postponed.length === 0;
        if (!isOver && job.status !== 'cancelled') this.changed(contextId, repositoryId, RETRY_MS);
      });
    } catch (error) {
      if (!hasCode(error, 'CHAIN_BUSY', 'REPOSITORY_BUSY', 'INTERRUPTED'))
        this.#deps.logger.error(
          { error: messageOf(error), vm: place.vm.name },
          'a chain could not be looked after',
        );
      this.changed(contextId, repositoryId, RETRY_MS);
    }
  }

  #placeOf(contextId: string, repositoryId: string): MachinePlace | null {
    const vm = this.#deps.catalog.vms.byContext(contextId);
    const repository = this.#deps.repositories.all().find(({ id }) => id === repositoryId);
    return vm && repository ? { vm, repository } : null;
  }
}
