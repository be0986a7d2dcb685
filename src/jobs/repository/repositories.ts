import { SendenseError } from '../../base/sendense-error.ts';
import type { RepositoryRecord } from '../../catalog/repositories/repositories.ts';
import type { RepositoryHold } from '../../repository/hold-repository.ts';
import type { Repository } from '../../repository/open-repository.ts';
import type { ScanDeps } from './scan/scan-repository.ts';

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

export interface OpenRepository {
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

/** The repositories of this daemon, open and away, and what is told of them. `RepositoryKeeper` opens and leaves them. */
export class Repositories {
  readonly #catalog: ScanDeps['catalog'];
  readonly #clock: ScanDeps['clock'];
  /** By id. */
  readonly #open = new Map<string, OpenRepository>();
  readonly #away = new Map<string, AwayRepository>();
  readonly #firstLooks = new Set<Promise<void>>();

  constructor({ catalog, clock }: Pick<ScanDeps, 'catalog' | 'clock'>) {
    this.#catalog = catalog;
    this.#clock = clock;
  }

  openOf(id: string): OpenRepository | undefined {
    return this.#open.get(id);
  }

  allOpen(): OpenRepository[] {
    return [...this.#open.values()];
  }

  /** @param isFirst the catalogue knew nothing of it */
  serve(open: OpenRepository, isFirst: boolean): void {
    this.#open.set(open.repository.id, open);
    this.#away.delete(open.repository.id);
    if (!isFirst) return;
    this.#firstLooks.add(open.looked);
    void open.looked.then(() => this.#firstLooks.delete(open.looked));
  }

  /** Resolves when everything is in the catalogue that was found in repositories new to it. */
  async firstLooks(): Promise<void> {
    await Promise.all(this.#firstLooks);
  }

  isServed(hold: RepositoryHold | null): boolean {
    return [...this.#open.values()].some((open) => open.hold === hold);
  }

  /** @throws REPOSITORY_EXISTS */
  refuseTwin(root: string, id: string): void {
    const twin = this.#open.get(id)?.repository;
    if (!twin) return;
    throw new SendenseError('REPOSITORY_EXISTS', {
      repository: twin.name,
      detail: `${root} is a copy of ${twin.root}`,
    });
  }

  close(id: string, keepsHold = false): void {
    const open = this.#open.get(id);
    open?.closing.abort();
    if (!keepsHold) open?.hold?.[Symbol.dispose]();
    this.#open.delete(id);
  }

  /** From now on nobody finds it here, and others may use it; its files stay. */
  forget(id: string): void {
    this.close(id);
    this.#away.delete(id);
  }

  isDetached(id: string): boolean {
    return this.#away.get(id)?.isDetached === true;
  }

  /** Those that can be used now. */
  all(): Repository[] {
    return [...this.#open.values()].map(({ repository }) => repository);
  }

  /** Also those that are away. */
  known(): KnownRepository[] {
    return this.#catalog.repositories.all().map((record) => this.knownOf(record));
  }

  /** @throws REPOSITORY_UNKNOWN; REPOSITORY_UNAVAILABLE when it is away */
  byName(name: string): Repository {
    return this.byId(this.idOf(name));
  }

  /** Also of one that is away. @throws REPOSITORY_UNKNOWN */
  idOf(name: string): string {
    const record = this.#catalog.repositories.all().find((candidate) => candidate.name === name);
    if (!record) throw new SendenseError('REPOSITORY_UNKNOWN', { repository: name });
    return record.id;
  }

  /** @throws REPOSITORY_UNAVAILABLE when it is away */
  byId(id: string): Repository {
    const open = this.#open.get(id);
    if (open) return open.repository;
    const record = this.#catalog.repositories.all().find((candidate) => candidate.id === id);
    const away = this.#away.get(id);
    throw new SendenseError('REPOSITORY_UNAVAILABLE', {
      path: record?.root ?? id,
      detail: away ? `${away.reason} (since ${away.since})` : 'it is not open',
    });
  }

  /** What people call it, also when it is away. */
  nameOf(id: string): string {
    const open = this.#open.get(id)?.repository;
    return open?.name ?? this.#catalog.repositories.all().find((record) => record.id === id)?.name ?? id;
  }

  markAway(record: Repository, reason: string, kind: string): void {
    const since = this.#clock.now().toISOString();
    const isDetached = kind === 'repository.detached';
    this.#away.set(record.id, { reason, since, isDetached });
    this.#catalog.events.add({
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
  note(id: string, reason: string): void {
    const away = this.#away.get(id);
    const since = away?.since ?? this.#clock.now().toISOString();
    this.#away.set(id, { reason, since, isDetached: false });
  }

  knownOf({ id, name, root, mount, createdAt }: RepositoryRecord): KnownRepository {
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
