import type { Clock } from '../../base/clock.ts';
import type { Logger } from '../../base/logger.ts';
import { messageOf } from '../../base/sendense-error.ts';
import type { PolicyRunQueries } from '../../catalog/policies/policy-runs.ts';
import { type Policy, type PolicyKind, policyKinds } from '../../policy/definition/policy.ts';
import { type DueRun, dueRun, nextLook } from '../../policy/schedules/plan-due.ts';
import type { PolicyBook } from './policy-book.ts';
import { timingOf } from './timing-of.ts';

/** A clock that was set is noticed after so long at the latest, and so is a policy that changed. */
const MOST_SLEEP_MS = 20_000;
/** A timer may fire a little early. */
const LEAST_SLEEP_MS = 50;

interface SchedulerDeps {
  readonly book: PolicyBook;
  readonly runs: PolicyRunQueries;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Takes the due instant and begins. */
  readonly begin: (policy: Policy, kind: PolicyKind, due: DueRun) => void;
}

/**
 * Begins what is due. It remembers nothing of its own: what was begun stands in the catalogue, so a restart in the same
 * second, a crash or a clock that moves neither doubles nor loses a run.
 */
export class Scheduler {
  readonly #deps: SchedulerDeps;
  #timer: NodeJS.Timeout | null = null;
  #isStopped = true;
  /** Schedules that were written while the clock stood ahead, and when that was noticed. */
  readonly #ahead = new Map<string, number>();

  constructor(deps: SchedulerDeps) {
    this.#deps = deps;
  }

  start(): void {
    this.#isStopped = false;
    this.#look();
  }

  stop(): void {
    this.#isStopped = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
  }

  /** Begins everything that is due now, by priority. @returns when to look again at the latest, ms since the epoch */
  tick(): number {
    const nowMs = this.#deps.clock.now().getTime();
    let wakeMs = nowMs + MOST_SLEEP_MS;
    const due: { policy: Policy; kind: PolicyKind; run: DueRun }[] = [];
    for (const { policy, since } of this.#deps.book.all()) {
      if (policy.runner !== 'daemon') continue;
      for (const kind of policyKinds) {
        const timing = timingOf(policy, kind);
        if (timing === null) continue;
        const claimed = this.#deps.runs.newestClaim(policy.name, kind, new Date(nowMs).toISOString());
        const run = dueRun(timing, {
          nowMs,
          sinceMs: this.#sinceOf(`${policy.name} ${kind}`, Date.parse(since[kind]), nowMs),
          claimedMs: claimed === null ? null : Date.parse(claimed),
        });
        if (run !== null) due.push({ policy, kind, run });
        wakeMs = Math.min(wakeMs, nextLook(timing, nowMs) ?? wakeMs);
      }
    }
    for (const { policy, kind, run } of due.toSorted((a, b) => b.policy.priority - a.policy.priority))
      this.#begin(policy, kind, run);
    return wakeMs;
  }

  /** One that lies ahead holds from when that was first seen: else nothing would be due until the clock is there again. */
  #sinceOf(key: string, sinceMs: number, nowMs: number): number {
    if (sinceMs <= nowMs) return sinceMs;
    const seenMs = Math.min(this.#ahead.get(key) ?? nowMs, nowMs);
    this.#ahead.set(key, seenMs);
    return seenMs;
  }

  #begin(policy: Policy, kind: PolicyKind, run: DueRun): void {
    try {
      this.#deps.begin(policy, kind, run);
    } catch (error) {
      // it was not claimed, so it is due again at the next look
      this.#deps.logger.error(
        { policy: policy.name, kind, error: messageOf(error) },
        'a run that is due could not be begun',
      );
    }
  }

  #look(): void {
    if (this.#isStopped) return;
    let wakeMs: number;
    try {
      wakeMs = this.tick();
    } catch (error) {
      // such as a catalogue on a full disk; the next look may find room
      this.#deps.logger.error({ error: messageOf(error) }, 'it could not be seen what is due');
      wakeMs = this.#deps.clock.now().getTime() + MOST_SLEEP_MS;
    }
    const sleepMs = Math.max(LEAST_SLEEP_MS, wakeMs - this.#deps.clock.now().getTime());
    this.#timer = setTimeout(() => this.#look(), Math.min(sleepMs, MOST_SLEEP_MS)).unref();
  }
}
