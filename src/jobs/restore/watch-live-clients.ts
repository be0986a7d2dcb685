import type { Logger } from '../../base/logger.ts';
import { messageOf } from '../../base/sendense-error.ts';
import type { EventLog } from '../../catalog/events/events.ts';
import type { LiveRegistry } from '../../restore/live/live-registry.ts';

/** Each look starts a program for each export. A client that comes and goes between two looks is not seen. */
const LOOK_MS = 5_000;

interface WatchDeps {
  readonly lives: Pick<LiveRegistry, 'list'>;
  readonly events: EventLog;
  readonly logger: Logger;
}

/** Tells the audit when clients connect to live exports, and when they leave: they may read everything then. */
export class LiveClientWatch implements Disposable {
  readonly #deps: WatchDeps;
  readonly #known = new Map<string, number>();
  readonly #timer: NodeJS.Timeout;
  #looking = false;

  constructor(deps: WatchDeps) {
    this.#deps = deps;
    this.#timer = setInterval(() => void this.#look(), LOOK_MS);
    this.#timer.unref();
  }

  async #look(): Promise<void> {
    if (this.#looking) return;
    this.#looking = true;
    const sessions = this.#deps.lives.list();
    try {
      for (const { live, backupId } of sessions) this.#told(live.liveId, backupId, await live.clients());
    } catch (error) {
      this.#deps.logger.warn({ error: messageOf(error) }, 'the clients of live exports cannot be counted');
    }
    const open = new Set(sessions.map(({ live }) => live.liveId));
    for (const liveId of this.#known.keys()) if (!open.has(liveId)) this.#known.delete(liveId);
    this.#looking = false;
  }

  #told(liveId: string, backupId: string, clients: number): void {
    const before = this.#known.get(liveId) ?? 0;
    this.#known.set(liveId, clients);
    if (clients === before) return;
    const isMore = clients > before;
    this.#deps.events.add({
      kind: isMore ? 'live.connected' : 'live.disconnected',
      severity: 'info',
      subject: backupId,
      message: `${liveId} has ${clients} connections, ${isMore ? 'more' : 'fewer'} than before (${before}).`,
      data: { live_id: liveId, backup_id: backupId, clients },
    });
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}
