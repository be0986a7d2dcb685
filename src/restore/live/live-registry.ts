import type { Clock } from '../../base/clock.ts';
import { newLiveId } from '../../base/ids.ts';
import { messageOf, SendenseError } from '../../base/sendense-error.ts';
import { type LivePlace, type LiveRequest, type OpenLive, openLive } from './open-live.ts';

/** How often expired exports are looked for, in milliseconds. */
const TICK_MS = 2_000;

export type LiveCloseReason = 'removed' | 'expired' | 'shutdown';

export interface LiveSession {
  readonly live: OpenLive;
  readonly backupId: string;
  readonly writable: boolean;
  readonly createdAt: Date;
  readonly expiresAt: Date;
  /** Clients are cut off when the time is up. */
  readonly forceExpiry: boolean;
  /** A disk of it is being kept, and not served meanwhile. */
  readonly isKeeping: boolean;
}

interface LiveRegistryDeps {
  readonly clock: Clock;
  readonly place: LivePlace;
  /** Most live exports at once, those being opened included. */
  readonly max: number;
  readonly onOpened: (session: LiveSession) => void;
  readonly onClosed: (session: LiveSession, reason: LiveCloseReason) => void;
}

interface NewLive extends Omit<LiveRequest, 'liveId'> {
  readonly backupId: string;
  readonly expiresMs: number;
  readonly forceExpiry: boolean;
}

interface Entry {
  session: LiveSession;
  closing: Promise<void> | null;
}

/** All live exports of this daemon; ends those whose time is up. */
export class LiveRegistry {
  readonly #deps: LiveRegistryDeps;
  readonly #entries = new Map<string, Entry>();
  readonly #opening = new Set<Promise<LiveSession>>();
  readonly #timer: NodeJS.Timeout;
  #stopped = false;

  constructor(deps: LiveRegistryDeps) {
    this.#deps = deps;
    this.#timer = setInterval(() => void this.closeExpired(), TICK_MS);
    this.#timer.unref();
  }

  /** @throws LIMIT_REACHED, INTERRUPTED after `closeAll`, and what `openLive` throws */
  async open(request: NewLive): Promise<LiveSession> {
    if (this.#stopped) throw new SendenseError('INTERRUPTED');
    const { max } = this.#deps;
    if (this.#entries.size + this.#opening.size >= max)
      throw new SendenseError('LIMIT_REACHED', { what: 'live exports', limit: max });
    const opening = this.#open(request);
    this.#opening.add(opening);
    try {
      return await opening;
    } finally {
      this.#opening.delete(opening);
    }
  }

  async #open(request: NewLive): Promise<LiveSession> {
    const { clock, place, onOpened } = this.#deps;
    const live = await openLive(place, { ...request, liveId: newLiveId() });
    const createdAt = clock.now();
    const session: LiveSession = {
      live,
      backupId: request.backupId,
      writable: request.writable,
      createdAt,
      expiresAt: new Date(createdAt.getTime() + request.expiresMs),
      forceExpiry: request.forceExpiry,
      isKeeping: false,
    };
    this.#entries.set(live.liveId, { session, closing: null });
    onOpened(session);
    return session;
  }

  /** Oldest first. */
  list(): LiveSession[] {
    return [...this.#entries.values()].map(({ session }) => session);
  }

  /** @throws LIVE_UNKNOWN, also when it is just being closed */
  get(liveId: string): LiveSession {
    return this.#entryOf(liveId).session;
  }

  /**
   * Takes one disk away from its clients until the returned function is called; nothing else can be done with the
   * export meanwhile.
   * @throws LIVE_UNKNOWN, LIVE_BUSY
   */
  async withdraw(liveId: string, diskIndex: number, disconnect: boolean): Promise<() => Promise<void>> {
    const entry = this.#entryOf(liveId);
    if (entry.session.isKeeping)
      throw new SendenseError('LIVE_BUSY', { live: liveId, detail: 'a disk of it is being kept' });
    entry.session = { ...entry.session, isKeeping: true };
    const done = () => {
      entry.session = { ...entry.session, isKeeping: false };
    };
    try {
      await entry.session.live.withdraw(diskIndex, disconnect);
    } catch (error) {
      // a part of it may be gone already: as before, or not at all
      done();
      throw error;
    }
    return async () => {
      try {
        if (!this.#stopped) await entry.session.live.serve(diskIndex);
      } finally {
        done();
      }
    };
  }

  /** @throws LIVE_UNKNOWN, LIVE_BUSY while a client is connected, unless it is cut off, or while a disk of it is kept */
  async close(liveId: string, options: { readonly disconnect: boolean }): Promise<void> {
    const entry = this.#entryOf(liveId);
    if (entry.session.isKeeping)
      throw new SendenseError('LIVE_BUSY', { live: liveId, detail: 'a disk of it is being kept' });
    const clients = options.disconnect ? 0 : await entry.session.live.clients();
    if (clients > 0)
      throw new SendenseError('LIVE_BUSY', {
        live: liveId,
        detail: clients === 1 ? 'a client is connected' : `${clients} clients are connected`,
      });
    await this.#close(entry, 'removed');
  }

  /** What the timer does. One that is in use is looked at again next time. */
  async closeExpired(): Promise<void> {
    const now = this.#deps.clock.now();
    for (const entry of [...this.#entries.values()]) {
      const { expiresAt, forceExpiry, isKeeping, live } = entry.session;
      if (expiresAt > now || isKeeping || entry.closing) continue;
      if (!forceExpiry && (await live.clients()) > 0) continue;
      await this.#close(entry, 'expired').catch((error: unknown) =>
        this.#deps.place.logger.error({ live: live.liveId, error: messageOf(error) }, 'an export stays open'),
      );
    }
  }

  /** At shutdown: ends all of them, also those in use. */
  async closeAll(): Promise<void> {
    this.#stopped = true;
    clearInterval(this.#timer);
    await Promise.allSettled(this.#opening);
    await Promise.allSettled([...this.#entries.values()].map((entry) => this.#close(entry, 'shutdown')));
  }

  async #close(entry: Entry, reason: LiveCloseReason): Promise<void> {
    // whoever comes second waits for the first
    if (entry.closing) return await entry.closing;
    entry.closing = entry.session.live.close();
    try {
      await entry.closing;
    } finally {
      entry.closing = null;
    }
    if (this.#entries.delete(entry.session.live.liveId)) this.#deps.onClosed(entry.session, reason);
  }

  #entryOf(liveId: string): Entry {
    const entry = this.#entries.get(liveId);
    if (!entry || entry.closing) throw new SendenseError('LIVE_UNKNOWN', { live: liveId });
    return entry;
  }
}
