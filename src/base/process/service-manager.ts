import type { Logger } from '../logger.ts';
import { messageOf } from '../sendense-error.ts';
import { run } from './run.ts';

/** What may be said, as sd_notify(3) spells it. */
type Assignment = `READY=1` | `STOPPING=1` | `RELOADING=1` | `WATCHDOG=1` | `STATUS=${string}`;

/** A message is a datagram of some bytes; a manager that does not take it in this time is stuck. */
const NOTIFY_TIMEOUT_MS = 10_000;

/**
 * Tells the service manager how this process is, by sd_notify(3). Node has no datagram sockets of unix, so systemd's own
 * program sends it; the unit needs `NotifyAccess=all`. Without a manager that listens nothing is done.
 */
export class ServiceManager {
  readonly #logger: Logger;
  readonly #socket: string | undefined;
  readonly #watchdogUs: number;
  #watchdog: NodeJS.Timeout | null = null;
  #isAsking = false;

  /** Takes the variables out of the environment: no program that is started may speak for us. */
  constructor(logger: Logger, environment: Record<string, string | undefined>) {
    this.#logger = logger;
    this.#socket = environment['NOTIFY_SOCKET'];
    const isOurs = [undefined, String(process.pid)].includes(environment['WATCHDOG_PID']);
    this.#watchdogUs = isOurs ? Number(environment['WATCHDOG_USEC'] ?? 0) : 0;
    for (const name of ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID']) delete environment[name];
  }

  /** Never fails: a service that works must not end because nobody hears of it. */
  async tell(...assignments: Assignment[]): Promise<void> {
    if (this.#socket === undefined) return;
    try {
      await run('systemd-notify', assignments, {
        env: { NOTIFY_SOCKET: this.#socket },
        timeoutMs: NOTIFY_TIMEOUT_MS,
      });
    } catch (error) {
      this.#logger.warn({ error: messageOf(error), assignments }, 'the service manager was not told');
    }
  }

  /** From now on says twice in each period of the watchdog that the event loop turns. */
  startWatchdog(): void {
    if (this.#watchdogUs <= 0 || this.#watchdog !== null) return;
    this.#watchdog = setInterval(() => {
      if (this.#isAsking) return;
      this.#isAsking = true;
      void this.tell('WATCHDOG=1').finally(() => {
        this.#isAsking = false;
      });
    }, this.#watchdogUs / 2000);
    this.#watchdog.unref();
  }
}
