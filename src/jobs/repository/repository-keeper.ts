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
import { Repositories } from './repositories.ts';
import type { ScanDeps } from './scan/scan-repository.ts';
import { machinesInterrupted, serveRepository } from './serve-repository.ts';

interface RepositoriesDeps extends ScanDeps {
  /** Of this daemon, told to another one that wants a repository. */
  readonly home: string;
  /** Called after one was opened again that had been away. */
  readonly onBack?: (repository: Repository) => Promise<void>;
}

/** A look that hangs on storage that does not answer is not waited for. */
const CLOSE_MS = 10_000;

/** Opens repositories, sees when they go and come back, and closes them at the end. */
export class RepositoryKeeper {
  readonly #deps: RepositoriesDeps;
  readonly repositories: Repositories;
  /** Of repositories that do not answer, by id. */
  readonly #silent = new Map<string, RepositoryHold>();
  /** By id: who comes second gets what the first one opens. */
  readonly #opening = new Map<string, Promise<Repository>>();

  constructor(deps: RepositoriesDeps) {
    this.#deps = deps;
    this.repositories = new Repositories(deps);
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
        .filter(({ id }) => !this.repositories.openOf(id))
        .map(async (record) => {
          try {
            await this.#openKnown(record, true);
          } catch (error) {
            this.repositories.markAway(record, reasonOf(error), 'repository.unavailable');
          }
        }),
    );
  }

  /** @throws REPOSITORY_EXISTS, REPOSITORY_UNAVAILABLE, REPOSITORY_IN_USE */
  async add(name: string, path: string, mount: MountWish): Promise<Repository> {
    const root = await realpath(path).catch(() => resolve(path));
    const known = this.#deps.catalog.repositories.all();
    for (const other of known) this.#refuseOverlap(other, name, root);
    const record = known.find((candidate) => candidate.name === name);
    if (!record) return await this.#addNew(name, root, mount);
    const place = mount === 'decide' ? record.mount : await decideMount(root, mount, null);
    return await this.#openKnown({ ...record, root, mount: place }, false);
  }

  /** Lets go of a repository that nobody uses, so that its file system can be unmounted. */
  detach(repository: Repository): void {
    this.repositories.close(repository.id);
    const back = `sendense-ctl repository attach ${repository.name} --path ${repository.root}`;
    this.repositories.markAway(
      repository,
      `it was detached by hand; to use it without unmounting it first: ${back}`,
      'repository.detached',
    );
  }

  /** Looks whether a repository is still there, or there again. Never fails. */
  async look(record: RepositoryRecord): Promise<void> {
    const open = this.repositories.openOf(record.id);
    if (open) {
      try {
        await confirmSoon(open.repository);
        if ((open.hold === null) === ((await whyNotWritable(open.repository.root)) !== null)) return;
        // what can be written again, or not any more, is opened anew
        this.repositories.close(record.id);
      } catch (error) {
        this.leave(record, reasonOf(error), isSilence(error));
        return;
      }
    }
    await this.#tryAgain(record);
  }

  /** A repository is not where it must be, or (`isSilent`) does not answer. */
  leave(record: RepositoryRecord, reason: string, isSilent: boolean): void {
    const open = this.repositories.openOf(record.id);
    if (open) {
      // giving a lock back to a server that does not answer would stop this whole process
      if (isSilent && open.hold) this.#silent.set(record.id, open.hold);
      this.repositories.close(record.id, isSilent);
      // what was going on there may have got further than the catalogue knows
      this.#deps.catalog.repositories.save({ ...record, token: null }, this.#deps.clock.now());
      this.repositories.markAway(record, reason, 'repository.away');
    } else this.repositories.note(record.id, reason);
  }

  /** At the end, when nothing runs any more. */
  async closeAll(): Promise<void> {
    const open = this.repositories.allOpen();
    for (const { closing } of open) closing.abort();
    const looked = Promise.all(open.map(({ looked }) => looked));
    await Promise.race([looked, sleep(CLOSE_MS, undefined, { ref: false })]);
    for (const { repository } of open) this.repositories.close(repository.id);
  }

  #refuseOverlap(other: RepositoryRecord, name: string, root: string): void {
    const exists = (repository: string, detail: string) =>
      new SendenseError('REPOSITORY_EXISTS', { repository, detail });
    if (other.name === name && this.repositories.openOf(other.id))
      throw exists(name, `it lies in ${other.root}`);
    const overlaps =
      root === other.root || root.startsWith(other.root + sep) || other.root.startsWith(root + sep);
    if (overlaps && other.name !== name) throw exists(other.name, `${root} and ${other.root} overlap`);
  }

  async #tryAgain(record: RepositoryRecord): Promise<void> {
    const known = this.repositories.knownOf(record);
    try {
      await confirmSoon(known.repository);
    } catch (error) {
      this.repositories.note(record.id, reasonOf(error));
      return;
    }
    if (this.repositories.isDetached(record.id)) return;
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
      if (!hasCode(error, 'REPOSITORY_BUSY')) this.repositories.note(record.id, reasonOf(error));
    }
  }

  async #addNew(name: string, root: string, wish: MountWish): Promise<Repository> {
    const { clock, catalog } = this.#deps;
    await decideMount(root, wish, null); // before a folder is made below an absent mount
    const document = await inspectFolder(root);
    const mount = await decideMount(root, wish, document);
    if (document) this.repositories.refuseTwin(root, document.repository_id);
    const hold = await holdRepository(root, this.#deps.home, clock.now());
    try {
      const own = mount !== null;
      const settled = document ?? (await createRepository(root, clock, own));
      if (settled.own_mount !== own) await writeRepositoryFile(root, { ...settled, own_mount: own });
      const repository: Repository = { id: settled.repository_id, name, root, mount };
      // another one may have made it one in between
      await confirmRepository(repository);
      catalog.repositories.save({ ...repository, token: hold.token }, clock.now());
      await serveRepository(this.#deps, this.repositories, {
        ...{ repository, hold, reason: null, isFirst: true },
        isTrusted: () => false,
      });
      return repository;
    } catch (error) {
      if (!this.repositories.isServed(hold)) hold[Symbol.dispose]();
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
    this.repositories.refuseTwin(root, id);
    const reason = await whyNotWritable(root);
    this.#silent.get(id)?.[Symbol.dispose]();
    this.#silent.delete(id);
    const hold = reason === null ? await holdRepository(root, home, clock.now()) : null;
    try {
      if (!catalog.repositories.all().some((known) => known.id === id))
        throw new SendenseError('REPOSITORY_UNKNOWN', { repository: name }); // it was removed meanwhile
      const isSame = record.token !== null && hold !== null && hold.previousToken === record.token;
      const suspects = isStart ? machinesInterrupted(catalog) : new Set<string>();
      catalog.repositories.save({ ...repository, token: hold?.token ?? null }, clock.now());
      const isTrusted = (contextId: string) => isSame && !suspects.has(contextId) && !suspects.has('');
      const isEmpty = catalog.backups.list({ repositoryId: id, limit: 1 }).length === 0;
      await serveRepository(this.#deps, this.repositories, {
        ...{ repository, hold, reason, isTrusted, isFirst: isEmpty },
      });
      return repository;
    } catch (error) {
      if (!this.repositories.isServed(hold)) hold?.[Symbol.dispose]();
      throw error;
    }
  }
}
