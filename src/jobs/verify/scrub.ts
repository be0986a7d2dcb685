import { setTimeout as sleep } from 'node:timers/promises';
import type { Config } from '../../base/config/config-schema.ts';
import { hasCode, messageOf, SendenseError } from '../../base/sendense-error.ts';
import type { UnverifiedDisk } from '../../catalog/points/verdicts.ts';
import { DigestPool } from '../../nbd/mover/digest-pool.ts';
import { ChainViews } from '../../repository/verify/chain-views.ts';
import { SLOTS } from '../../repository/verify/inspect-view.ts';
import { paceOf } from '../../repository/verify/pace.ts';
import { dayBefore, pickScrub } from './pick-scrub.ts';
import { Tally } from './record-outcome.ts';
import { type VerifyDeps, verifyResource } from './start-verify.ts';
import { verifyMachine } from './verify-machine.ts';

/** The first slice after a start: a daemon that is restarted often scrubs all the same, and never while it starts. */
const FIRST_SLICE_MS = 300_000;
/** How often a paused scrub looks whether the others are done. */
const PAUSE_MS = 500;
/** A disk that could not be looked at is left to the others for a day. */
const SKIP_MS = 24 * 3600 * 1000;
/** More than one slice ever takes. */
const MAX_CANDIDATES = 256;

export interface ScrubReport {
  readonly state: 'off' | 'waiting' | 'running' | 'paused';
  readonly percentPerDay: number;
  /** What is looked at just now. */
  readonly backupId: string | null;
  readonly lastSliceAt: string | null;
  /** Since the daemon started. */
  readonly checked: number;
  readonly bad: number;
  readonly bytes: number;
}

/**
 * Verifies all restore points over and over, a little each hour. It reads slowly, stands still while any job runs, and
 * leaves as soon as somebody wants to change the chain it looks at.
 */
export class Scrub {
  readonly #deps: VerifyDeps;
  readonly #config: Config['verify'];
  readonly #stopping = new AbortController();
  #wake = new AbortController();
  readonly #tally = new Tally();
  readonly #skipUntil = new Map<string, number>();
  #loop: Promise<void> = Promise.resolve();
  #current: string | null = null;
  #lastSliceAt: string | null = null;

  constructor(deps: VerifyDeps, config: Config['verify']) {
    this.#deps = deps;
    this.#config = config;
  }

  start(): void {
    this.#loop = this.#run();
  }

  /** The next slice is due by the settings of now. */
  settingsChanged(): void {
    this.#wake.abort();
  }

  /** Ends what it does; nothing of it is lost but the layer under way. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#loop;
  }

  report(): ScrubReport {
    const { checked, bad, bytes } = this.#tally;
    const isOff = this.#config.scrub_percent_per_day <= 0;
    const working = this.#deps.engine.isIdle ? 'running' : 'paused';
    return {
      state: isOff ? 'off' : this.#current === null ? 'waiting' : working,
      percentPerDay: this.#config.scrub_percent_per_day,
      backupId: this.#current,
      lastSliceAt: this.#lastSliceAt,
      checked,
      bad,
      bytes,
    };
  }

  async #run(): Promise<void> {
    const { signal: stopping } = this.#stopping;
    let mostMs = FIRST_SLICE_MS;
    while (!stopping.aborted) {
      const ms = Math.min(mostMs, this.#config.scrub_interval_s * 1000);
      const signal = AbortSignal.any([stopping, this.#wake.signal]);
      await sleep(ms, undefined, { signal, ref: false }).catch(() => undefined);
      if (stopping.aborted) return;
      if (this.#wake.signal.aborted) {
        this.#wake = new AbortController();
        mostMs = FIRST_SLICE_MS;
        continue;
      }
      mostMs = Number.POSITIVE_INFINITY;
      if (this.#config.scrub_percent_per_day > 0 && this.#deps.engine.isIdle)
        await this.#slice().catch((error: unknown) => this.#say(error, null));
    }
  }

  async #slice(): Promise<void> {
    const { clock, logger, runFolder } = this.#deps;
    const now = clock.now();
    this.#lastSliceAt = now.toISOString();
    const picked = this.#pick(now.getTime());
    if (picked.length === 0) return;
    await using pool = new DigestPool(SLOTS, 1);
    await using views = await ChainViews.start({ logger, runFolder, isIdle: true });
    for (const disk of picked) {
      if (this.#stopping.signal.aborted) return;
      this.#current = disk.backupId;
      try {
        await this.#verify(disk, pool, views);
      } catch (error) {
        if (hasCode(error, 'CANCELLED', 'VERIFY_BUSY')) continue;
        this.#skipUntil.set(keyOf(disk), now.getTime() + SKIP_MS);
        this.#say(error, disk);
      } finally {
        this.#current = null;
      }
    }
  }

  #pick(nowMs: number): UnverifiedDisk[] {
    const { catalog, repositories } = this.#deps;
    const ids = repositories.all().map(({ id }) => id);
    const { total, recent } = catalog.backups.storedBytes(ids, dayBefore(nowMs));
    for (const [key, until] of this.#skipUntil) if (until <= nowMs) this.#skipUntil.delete(key);
    const candidates = catalog.backups
      .longestUnverified(ids, MAX_CANDIDATES + this.#skipUntil.size)
      .filter((disk) => !this.#skipUntil.has(keyOf(disk)));
    return pickScrub(
      { totalBytes: total, recentBytes: recent, candidates },
      {
        percentPerDay: this.#config.scrub_percent_per_day,
        intervalMs: this.#config.scrub_interval_s * 1000,
      },
      nowMs,
    );
  }

  async #verify(disk: UnverifiedDisk, pool: DigestPool, views: ChainViews): Promise<void> {
    const { catalog, repositories, locks, logger } = this.#deps;
    const backup = catalog.backups.byId(disk.backupId);
    const vm = backup ? catalog.vms.byContext(backup.contextId) : null;
    if (!backup || !vm) return;
    const repository = repositories.byId(backup.repositoryId);
    const wanted = new AbortController();
    const release = locks.acquire(
      'the scrub',
      [
        {
          resource: verifyResource(repository.id, vm.contextId),
          exclusive: true,
          busy: (holder) => new SendenseError('VERIFY_BUSY', { vm: vm.name, holder }),
        },
      ],
      () => wanted.abort(),
    );
    try {
      await verifyMachine(
        {
          ...this.#deps,
          clear: false,
          tally: this.#tally,
          pool,
          views,
          pace: paceOf(this.#config.scrub_mib_per_s, (signal) => this.#pause(signal)),
          holder: 'the scrub',
          signal: AbortSignal.any([this.#stopping.signal, wanted.signal]),
          warn: (text) => logger.warn({ backup: backup.id }, text),
          onProgress: () => undefined,
          onPoint: () => undefined,
        },
        { vm, repository, backupIds: new Set([backup.id]), diskIndex: disk.diskIndex, depth: 'own' },
      );
    } finally {
      release();
    }
  }

  async #pause(signal: AbortSignal): Promise<void> {
    while (!this.#deps.engine.isIdle && !signal.aborted)
      await sleep(PAUSE_MS, undefined, { signal }).catch(() => undefined);
  }

  #say(error: unknown, disk: UnverifiedDisk | null): void {
    const subject = disk === null ? 'The scrub' : `The scrub of disk ${disk.diskIndex} of ${disk.backupId}`;
    this.#deps.catalog.events.add({
      kind: 'scrub.failed',
      severity: 'warning',
      subject: disk?.backupId ?? null,
      message: `${subject} could not be done: ${messageOf(error)}`,
      data: { backup_id: disk?.backupId ?? null, disk_index: disk?.diskIndex ?? null },
    });
  }
}

const keyOf = (disk: UnverifiedDisk) => `${disk.backupId}/${disk.diskIndex}`;
