import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '../../base/clock.ts';
import { newMountId } from '../../base/ids.ts';
import { hasCode, messageOf, SendenseError } from '../../base/sendense-error.ts';
import type { OpenMount, OpenMountDeps } from './mount-request.ts';
import type { CloseReason, MountHold, MountSession, OpenSessionRequest } from './mount-session.ts';
import { openMount } from './open-mount.ts';
import type { UndoOptions } from './undo-stack.ts';

/** The longest time between two looks for idle mounts, in milliseconds. */
const MAX_TICK_MS = 30_000;
const HOLD_GRACE_MS = 500;

export interface MountRegistryDeps {
  readonly clock: Clock;
  readonly mountDeps: OpenMountDeps;
  /** Most mounts at once, those being opened included. */
  readonly max: number;
  readonly idleTimeoutMs: number;
  readonly opener?: typeof openMount;
  /** When this fails the mount is closed again. */
  readonly onOpened: (session: MountSession) => void | Promise<void>;
  readonly onClosed: (session: MountSession, reason: CloseReason) => void | Promise<void>;
}

interface Entry {
  readonly mount: OpenMount;
  readonly backupId: string;
  readonly exposeAt: string | null;
  readonly createdAt: Date;
  lastUsedAt: Date;
  holds: number;
  closing: Promise<void> | null;
}

/** All open mounts of this daemon; ends those that nobody uses. */
export class MountRegistry {
  readonly #deps: MountRegistryDeps;
  readonly #entries = new Map<string, Entry>();
  readonly #opening = new Set<Promise<MountSession>>();
  readonly #timer: NodeJS.Timeout;
  #stopped = false;

  constructor(deps: MountRegistryDeps) {
    this.#deps = deps;
    this.#timer = setInterval(
      () => void this.closeIdle(),
      Math.max(1, Math.min(MAX_TICK_MS, deps.idleTimeoutMs / 4)),
    );
    this.#timer.unref();
  }

  /** @throws LIMIT_REACHED, INTERRUPTED after `closeAll`, and what `openMount` throws */
  async open(request: OpenSessionRequest): Promise<MountSession> {
    if (this.#stopped) throw new SendenseError('INTERRUPTED');
    const { max } = this.#deps;
    if (this.#entries.size + this.#opening.size >= max)
      throw new SendenseError('LIMIT_REACHED', { what: 'mounts', limit: max });
    const opening = this.#open(request);
    this.#opening.add(opening);
    try {
      return await opening;
    } finally {
      this.#opening.delete(opening);
    }
  }

  /**
   * The session of an open mount, which counts as used now.
   * @throws MOUNT_UNKNOWN, also when it is just being closed
   */
  use(mountId: string): MountSession {
    const entry = this.#entryOf(mountId);
    entry.lastUsedAt = this.#deps.clock.now();
    return this.#sessionOf(entry);
  }

  /**
   * Like `use`, for as long as it is not released: for downloads.
   * @throws MOUNT_UNKNOWN
   */
  hold(mountId: string): MountHold {
    const session = this.use(mountId);
    const entry = this.#entryOf(mountId);
    entry.holds += 1;
    let isHeld = true;
    const release = () => {
      if (!isHeld) return;
      isHeld = false;
      entry.holds -= 1;
      entry.lastUsedAt = this.#deps.clock.now();
    };
    return { session, release, [Symbol.dispose]: release };
  }

  /** Oldest first. */
  list(): MountSession[] {
    return [...this.#entries.values()].map((entry) => this.#sessionOf(entry));
  }

  /** @throws MOUNT_UNKNOWN, MOUNT_BUSY while something in it is used, unless forced */
  async close(mountId: string, options: UndoOptions = { force: false }): Promise<void> {
    const entry = this.#entries.get(mountId);
    if (!entry) throw new SendenseError('MOUNT_UNKNOWN', { mount: mountId });
    await this.#close(entry, 'removed', options);
  }

  /** At shutdown: ends all of them, also those in use, and opens no more. */
  async closeAll(): Promise<void> {
    this.#stopped = true;
    clearInterval(this.#timer);
    await Promise.allSettled(this.#opening);
    await this.#closeEach([...this.#entries.values()], 'shutdown', { force: true });
  }

  /** What the timer does: closes mounts unused for too long. One that is busy is tried again next time. */
  async closeIdle(): Promise<void> {
    const now = this.#deps.clock.now();
    const entries = [...this.#entries.values()];
    await this.#closeEach(
      entries.filter((entry) => entry.mount.isLost()),
      'lost',
      { force: true },
    );
    for (const entry of entries) if (entry.holds > 0) entry.lastUsedAt = now;
    const idle = entries.filter((entry) => !entry.mount.isLost() && this.#expiryOf(entry) <= now);
    await this.#closeEach(idle, 'expired', { force: false });
  }

  async #open(request: OpenSessionRequest): Promise<MountSession> {
    const { clock, mountDeps, opener = openMount, onOpened } = this.#deps;
    const { backupId, exposeAt, disks, mode, passphrases } = request;
    const mount = await opener(mountDeps, { mountId: newMountId(), disks, mode, passphrases, exposeAt });
    const now = clock.now();
    const entry: Entry = {
      mount,
      backupId,
      exposeAt,
      createdAt: now,
      lastUsedAt: now,
      holds: 0,
      closing: null,
    };
    try {
      await onOpened(this.#sessionOf(entry));
    } catch (error) {
      await mount.close({ force: true });
      throw error;
    }
    this.#entries.set(mount.mountId, entry);
    return this.#sessionOf(entry);
  }

  async #closeEach(entries: readonly Entry[], reason: CloseReason, options: UndoOptions): Promise<void> {
    const { logger } = this.#deps.mountDeps;
    const closeOne = async (entry: Entry) => {
      try {
        await this.#close(entry, reason, options);
      } catch (error) {
        const level = hasCode(error, 'MOUNT_BUSY') ? 'debug' : 'error';
        logger[level](
          { mount: entry.mount.mountId, reason, error: messageOf(error) },
          'a mount could not be closed',
        );
      }
    };
    await Promise.all(entries.map(closeOne));
  }

  async #close(entry: Entry, reason: CloseReason, options: UndoOptions): Promise<void> {
    const { mountId } = entry.mount;
    // who has read the last byte may be here before we know that it was the last
    for (let waitedMs = 0; entry.holds > 0 && !options.force && waitedMs < HOLD_GRACE_MS; waitedMs += 10)
      await sleep(10);
    if (entry.holds > 0 && !options.force)
      throw new SendenseError('MOUNT_BUSY', { mount: mountId, detail: 'a download is running' });
    // whoever comes second waits for the first
    if (entry.closing) return await entry.closing;
    entry.closing = entry.mount.close(options);
    try {
      await entry.closing;
    } finally {
      entry.closing = null;
    }
    if (this.#entries.delete(mountId)) await this.#deps.onClosed(this.#sessionOf(entry), reason);
  }

  #entryOf(mountId: string): Entry {
    const entry = this.#entries.get(mountId);
    if (!entry || entry.closing) throw new SendenseError('MOUNT_UNKNOWN', { mount: mountId });
    return entry;
  }

  #expiryOf(entry: Entry): Date {
    return new Date(entry.lastUsedAt.getTime() + this.#deps.idleTimeoutMs);
  }

  #sessionOf(entry: Entry): MountSession {
    const { mount, backupId, exposeAt, createdAt, lastUsedAt } = entry;
    return {
      mountId: mount.mountId,
      backupId,
      exposeAt,
      createdAt,
      lastUsedAt,
      expiresAt: this.#expiryOf(entry),
      mount,
    };
  }
}
