import { realpath } from 'node:fs/promises';
import { resolve, sep } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { hasCode, SendenseError } from '../../base/sendense-error.ts';
import type { RepositoryRecord } from '../../catalog/repositories/repositories.ts';
import { holdRepository, type RepositoryHold } from '../../repository/hold-repository.ts';
import { isOnlyBound } from '../../repository/mount-point.ts';
import {
  confirmRepository,
  createRepository,
  inspectFolder,
  type Repository,
  whyNotWritable,
  writeRepositoryFile,
} from '../../repository/open-repository.ts';
import { confirmSoon, isSilence, reasonOf } from './confirm-soon.ts';
import { decideMount, type MountWish } from './decide-mount.ts';
import { beginScan, type ScanDeps } from './scan-repository.ts';

export type RepositoryState = 'ready' | 'read-only' | 'away';

/** A repository that is known, wherever it is now. */
export interface KnownRepository {
  readonly repository: Repository;
  readonly state: RepositoryState;
  /** Why it is not ready. */
  readonly reason: string | null;
  /** Since when it is in this state, as long as this daemon runs. */
  readonly since: string;
}

interface OpenRepository {
  readonly repository: Repository;
  /** Null when it can only be read. */
  readonly hold: RepositoryHold | null;
  readonly reason: string | null;
  readonly since: string;
  /** Ends the look through it. */
  readonly closing: AbortController;
  /** The end of that look. */
  readonly looked: Promise<void>;
}

interface AwayRepository {
  readonly reason: string;
  readonly since: string;
  /** Let go of by hand: it is not opened again before it was really gone. */
  readonly isDetached: boolean;
}

interface RepositoriesDeps extends ScanDeps {
  /** Of this daemon, told to another one that wants a repository. */
  readonly home: string;
  /** Called after one was opened again that had been away. */
  readonly onBack?: (repository: Repository) => Promise<void>;
}

/** Who opens a repository waits so long for the look through it; a large one goes on in the background. */
const PATIENCE_MS = 300;
/** And so long when the catalogue knows nothing of it, as after its loss. */
const FIRST_PATIENCE_MS = 5_000;

/** A look that hangs on storage that does not answer is not waited for. */
const CLOSE_MS = 10_000;

/** Kinds of jobs that leave no half-changed layer of others behind. */
const changesNoLayers: ReadonlySet<string> = new Set(['backup', 'restore-disk', 'restore-vm', 'keep-live']);

/** The repositories of this daemon, open and away. */
export class Repositories {
  readonly #deps: RepositoriesDeps;
  /** By id. */
  readonly #open = new Map<string, OpenRepository>();
  readonly #away = new Map<string, AwayRepository>();
  readonly #firstLooks = new Set<Promise<void>>();
  /** Of repositories that do not answer, by id. */
  readonly #silent = new Map<string, RepositoryHold>();
  /** By id: who comes second gets what the first one opens. */
  readonly #opening = new Map<string, Promise<Repository>>();

  constructor(deps: RepositoriesDeps) {
    this.#deps = deps;
  }

  /** Opens what the catalogue names and `local`; one that is away is reported, and opened when it is back. */
  async openAll(localFolder: string): Promise<void> {
    // the built-in one lies in the home, wherever that was moved to
    const known = this.#deps.catalog.repositories
      .all()
      .map((record) => (record.name === 'local' ? { ...record, root: localFolder } : record));
    if (!known.some((record) => record.name === 'local')) await this.#addNew('local', localFolder, 'decide');
    await Promise.all(
      known
        .filter(({ id }) => !this.#open.has(id))
        .map(async (record) => {
          try {
            await this.#openKnown(record, true);
          } catch (error) {
            this.#markAway(record, reasonOf(error), 'repository.unavailable');
          }
        }),
    );
  }

  /** @throws REPOSITORY_EXISTS, REPOSITORY_UNAVAILABLE, REPOSITORY_IN_USE */
  async add(name: string, path: string, mount: MountWish): Promise<Repository> {
    const root = await realpath(path).catch(() => resolve(path));
    const known = this.#deps.catalog.repositories.all();
    for (const other of known) {
      if (other.name === name && this.#open.has(other.id))
        throw new SendenseError('REPOSITORY_EXISTS', {
          repository: name,
          detail: `it lies in ${other.root}`,
        });
      const overlaps =
        root === other.root || root.startsWith(other.root + sep) || other.root.startsWith(root + sep);
      if (overlaps && other.name !== name)
        throw new SendenseError('REPOSITORY_EXISTS', {
          repository: other.name,
          detail: `${root} and ${other.root} overlap`,
        });
    }
    const record = known.find((candidate) => candidate.name === name);
    if (!record) return await this.#addNew(name, root, mount);
    const place = mount === 'decide' ? record.mount : await decideMount(root, mount, null);
    return await this.#openKnown({ ...record, root, mount: place }, false);
  }

  /** Those that can be used now. */
  all(): Repository[] {
    return [...this.#open.values()].map(({ repository }) => repository);
  }

  /** Also those that are away. */
  known(): KnownRepository[] {
    return this.#deps.catalog.repositories.all().map((record) => this.#knownOf(record));
  }

  /** @throws REPOSITORY_UNKNOWN; REPOSITORY_UNAVAILABLE when it is away */
  byName(name: string): Repository {
    return this.byId(this.idOf(name));
  }

  /** Also of one that is away. @throws REPOSITORY_UNKNOWN */
  idOf(name: string): string {
    const record = this.#deps.catalog.repositories.all().find((candidate) => candidate.name === name);
    if (!record) throw new SendenseError('REPOSITORY_UNKNOWN', { repository: name });
    return record.id;
  }

  /** @throws REPOSITORY_UNAVAILABLE when it is away */
  byId(id: string): Repository {
    const open = this.#open.get(id);
    if (open) return open.repository;
    const record = this.#deps.catalog.repositories.all().find((candidate) => candidate.id === id);
    const away = this.#away.get(id);
    throw new SendenseError('REPOSITORY_UNAVAILABLE', {
      path: record?.root ?? id,
      detail: away ? `${away.reason} (since ${away.since})` : 'it is not open',
    });
  }

  /** What people call it, also when it is away. */
  nameOf(id: string): string {
    const open = this.#open.get(id)?.repository;
    return open?.name ?? this.#deps.catalog.repositories.all().find((record) => record.id === id)?.name ?? id;
  }

  /** From now on nobody finds it here, and others may use it; its files stay. */
  forget(id: string): void {
    this.#close(id);
    this.#away.delete(id);
  }

  /** Lets go of a repository that nobody uses, so that its file system can be unmounted. */
  detach(repository: Repository): void {
    this.#close(repository.id);
    const back = `sendense-ctl repository attach ${repository.name} --path ${repository.root}`;
    this.#markAway(
      repository,
      `it was detached by hand; to use it without unmounting it first: ${back}`,
      'repository.detached',
    );
  }

  /** Looks whether a repository is still there, or there again. Never fails. */
  async look(record: RepositoryRecord): Promise<void> {
    const open = this.#open.get(record.id);
    if (open) {
      try {
        await confirmSoon(open.repository);
        if ((open.hold === null) === ((await whyNotWritable(open.repository.root)) !== null)) return;
        // what can be written again, or not any more, is opened anew
        this.#close(record.id);
      } catch (error) {
        this.leave(record, reasonOf(error), isSilence(error));
        return;
      }
    }
    await this.#tryAgain(record);
  }

  /** A repository is not where it must be, or (`isSilent`) does not answer. */
  leave(record: RepositoryRecord, reason: string, isSilent: boolean): void {
    const open = this.#open.get(record.id);
    if (open) {
      // giving a lock back to a server that does not answer would stop this whole process
      if (isSilent && open.hold) this.#silent.set(record.id, open.hold);
      this.#close(record.id, isSilent);
      // what was going on there may have got further than the catalogue knows
      this.#deps.catalog.repositories.save({ ...record, token: null }, this.#deps.clock.now());
      this.#markAway(record, reason, 'repository.away');
    } else this.#note(record.id, reason);
  }

  /** Resolves when everything is in the catalogue that was found in repositories new to it. */
  async firstLooks(): Promise<void> {
    await Promise.all(this.#firstLooks);
  }

  /** At the end, when nothing runs any more. */
  async closeAll(): Promise<void> {
    const open = [...this.#open.values()];
    for (const { closing } of open) closing.abort();
    const looked = Promise.all(open.map(({ looked }) => looked));
    await Promise.race([looked, sleep(CLOSE_MS, undefined, { ref: false })]);
    for (const { repository } of open) this.#close(repository.id);
  }

  async #tryAgain(record: RepositoryRecord): Promise<void> {
    const known = this.#knownOf(record);
    try {
      await confirmSoon(known.repository);
    } catch (error) {
      this.#note(record.id, reasonOf(error));
      return;
    }
    if (this.#away.get(record.id)?.isDetached) return;
    // not while a job is still being cleaned up that was here when it went
    const busy = (holder: string) =>
      new SendenseError('REPOSITORY_BUSY', { repository: record.name, holder });
    try {
      this.#deps.locks.acquire('a look', [{ resource: `repository:${record.id}`, exclusive: true, busy }])();
      const repository = await this.#openKnown(record, false);
      this.#deps.catalog.events.add({
        kind: 'repository.back',
        severity: 'info',
        subject: record.name,
        message: `The repository ${record.name} is in use again.`,
        data: { path: record.root, away_since: known.since },
      });
      await this.#deps.onBack?.(repository);
    } catch (error) {
      if (!hasCode(error, 'REPOSITORY_BUSY')) this.#note(record.id, reasonOf(error));
    }
  }

  async #addNew(name: string, root: string, wish: MountWish): Promise<Repository> {
    const { clock, catalog } = this.#deps;
    await decideMount(root, wish, null); // before a folder is made below an absent mount
    const document = await inspectFolder(root);
    const mount = await decideMount(root, wish, document);
    if (document) this.#refuseTwin(root, document.repository_id);
    const hold = await holdRepository(root, this.#deps.home, clock.now());
    try {
      const own = mount !== null;
      const settled = document ?? (await createRepository(root, clock, own));
      if (settled.own_mount !== own) await writeRepositoryFile(root, { ...settled, own_mount: own });
      const repository: Repository = { id: settled.repository_id, name, root, mount };
      // another one may have made it one in between
      await confirmRepository(repository);
      catalog.repositories.save({ ...repository, token: hold.token }, clock.now());
      await this.#serve(repository, hold, null, () => false, true);
      return repository;
    } catch (error) {
      if (!this.#isServed(hold)) hold[Symbol.dispose]();
      throw error;
    }
  }

  async #openKnown(record: RepositoryRecord, isStart: boolean): Promise<Repository> {
    const running = this.#opening.get(record.id);
    if (running) return await running;
    const opening = this.#openNow(record, isStart).finally(() => this.#opening.delete(record.id));
    this.#opening.set(record.id, opening);
    return await opening;
  }

  async #openNow(record: RepositoryRecord, isStart: boolean): Promise<Repository> {
    const { catalog, clock, home } = this.#deps;
    const { id, name, root } = record;
    // a folder that systemd binds onto itself was once taken for a mount
    const mount = record.mount !== null && (await isOnlyBound(record.mount)) ? null : record.mount;
    const repository: Repository = { id, name, root, mount };
    await confirmRepository(repository);
    this.#refuseTwin(root, id);
    const reason = await whyNotWritable(root);
    this.#silent.get(id)?.[Symbol.dispose]();
    this.#silent.delete(id);
    const hold = reason === null ? await holdRepository(root, home, clock.now()) : null;
    try {
      if (!catalog.repositories.all().some((known) => known.id === id))
        throw new SendenseError('REPOSITORY_UNKNOWN', { repository: name }); // it was removed meanwhile
      const isSame = record.token !== null && hold !== null && hold.previousToken === record.token;
      const suspects = isStart ? this.#interrupted() : new Set<string>();
      catalog.repositories.save({ ...repository, token: hold?.token ?? null }, clock.now());
      const isTrusted = (contextId: string) => isSame && !suspects.has(contextId) && !suspects.has('');
      const isEmpty = catalog.backups.list({ repositoryId: id, limit: 1 }).length === 0;
      await this.#serve(repository, hold, reason, isTrusted, isEmpty);
      return repository;
    } catch (error) {
      if (!this.#isServed(hold)) hold?.[Symbol.dispose]();
      throw error;
    }
  }

  /** Machines with work on their layers that a dead daemon left; the empty name stands for any. */
  #interrupted(): Set<string> {
    const unfinished = this.#deps.catalog.jobs.unfinished();
    return new Set(
      unfinished
        .filter(({ kind }) => !changesNoLayers.has(kind))
        .map(({ request }) => String(request['context_id'] ?? '')),
    );
  }

  async #serve(
    repository: Repository,
    hold: RepositoryHold | null,
    reason: string | null,
    isTrusted: (contextId: string) => boolean,
    isFirst: boolean,
  ): Promise<void> {
    const closing = new AbortController();
    const order = { repository, isTrusted, isWritable: hold !== null, signal: closing.signal };
    const { finished } = await beginScan(this.#deps, order);
    const since = this.#deps.clock.now().toISOString();
    this.#open.set(repository.id, { repository, hold, reason, since, closing, looked: finished });
    this.#away.delete(repository.id);
    if (isFirst) {
      this.#firstLooks.add(finished);
      void finished.then(() => this.#firstLooks.delete(finished));
    }
    const patience = new AbortController();
    const waiting = sleep(isFirst ? FIRST_PATIENCE_MS : PATIENCE_MS, undefined, { signal: patience.signal });
    await Promise.race([finished, waiting.catch(() => undefined)]);
    patience.abort();
  }

  #isServed(hold: RepositoryHold | null): boolean {
    return [...this.#open.values()].some((open) => open.hold === hold);
  }

  #refuseTwin(root: string, id: string): void {
    const twin = this.#open.get(id)?.repository;
    if (!twin) return;
    throw new SendenseError('REPOSITORY_EXISTS', {
      repository: twin.name,
      detail: `${root} is a copy of ${twin.root}`,
    });
  }

  #close(id: string, keepsHold = false): void {
    const open = this.#open.get(id);
    open?.closing.abort();
    if (!keepsHold) open?.hold?.[Symbol.dispose]();
    this.#open.delete(id);
  }

  #markAway(record: Repository, reason: string, kind: string): void {
    const since = this.#deps.clock.now().toISOString();
    const isDetached = kind === 'repository.detached';
    this.#away.set(record.id, { reason, since, isDetached });
    this.#deps.catalog.events.add({
      kind,
      severity: isDetached ? 'info' : 'error',
      subject: record.name,
      message: isDetached
        ? `The repository ${record.name} was detached by hand.`
        : `The repository ${record.name} (${record.root}) is away: ${reason}`,
      data: { path: record.root },
    });
  }

  /** It is still away, perhaps for another reason. */
  #note(id: string, reason: string): void {
    const away = this.#away.get(id);
    const since = away?.since ?? this.#deps.clock.now().toISOString();
    this.#away.set(id, { reason, since, isDetached: false });
  }

  #knownOf({ id, name, root, mount, createdAt }: RepositoryRecord): KnownRepository {
    const repository: Repository = { id, name, root, mount };
    const open = this.#open.get(id);
    if (open) {
      const { since, reason } = open;
      return { repository, state: reason === null ? 'ready' : 'read-only', reason, since };
    }
    const away = this.#away.get(id);
    return {
      repository,
      state: 'away',
      reason: away?.reason ?? 'it is not open',
      since: away?.since ?? createdAt,
    };
  }
}
