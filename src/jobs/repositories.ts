import { realpath } from 'node:fs/promises';
import { resolve, sep } from 'node:path';
import type { Clock } from '../base/clock.ts';
import { messageOf, SendenseError } from '../base/sendense-error.ts';
import type { Catalog } from '../catalog/catalog.ts';
import type { CarryOutDeps } from '../repository/merge/carry-out-merge.ts';
import {
  type Compression,
  openRepository,
  type Repository,
  writeCompression,
} from '../repository/open-repository.ts';
import { readMachines } from '../repository/read-repository.ts';
import { settleRepository } from '../repository/settle-repository.ts';
import { adoptMachine } from './adopt-machine.ts';

/** Ids that an event lists; of the rest only the number. */
const MAX_TOLD = 100;

/** The repositories that are open in this daemon, by name and by id. */
export class Repositories {
  readonly #catalog: Catalog;
  readonly #clock: Clock;
  readonly #open = new Map<string, Repository>();

  readonly #settling: CarryOutDeps;

  /** @param settling for what a crash left in the middle of a rewriting */
  constructor(catalog: Catalog, clock: Clock, settling: CarryOutDeps) {
    this.#catalog = catalog;
    this.#clock = clock;
    this.#settling = settling;
  }

  /** Opens what the catalogue names and `local`; one that is away is reported and left out. */
  async openAll(localFolder: string): Promise<void> {
    const known = this.#catalog.repositories.all();
    if (!known.some((record) => record.name === 'local')) await this.#attach('local', localFolder, null);
    for (const record of known) {
      if (this.#open.has(record.name)) continue;
      try {
        // the built-in one lies in the home, wherever that was moved to
        const root = record.name === 'local' ? localFolder : record.root;
        await this.#attach(record.name, root, record.id);
      } catch (error) {
        this.#catalog.events.add({
          kind: 'repository.unavailable',
          severity: 'error',
          subject: record.name,
          message: messageOf(error),
          data: { path: record.root },
        });
      }
    }
  }

  /** @throws REPOSITORY_EXISTS, REPOSITORY_UNAVAILABLE */
  async add(name: string, path: string): Promise<Repository> {
    const root = await realpath(path).catch(() => resolve(path));
    for (const known of this.#open.values()) {
      const overlaps =
        root === known.root || root.startsWith(known.root + sep) || known.root.startsWith(root + sep);
      if (known.name === name)
        throw new SendenseError('REPOSITORY_EXISTS', {
          repository: name,
          detail: `it lies in ${known.root}`,
        });
      if (overlaps)
        throw new SendenseError('REPOSITORY_EXISTS', {
          repository: known.name,
          detail: `${root} and ${known.root} overlap`,
        });
    }
    return await this.#attach(
      name,
      root,
      this.#catalog.repositories.all().find((record) => record.name === name)?.id ?? null,
    );
  }

  all(): Repository[] {
    return [...this.#open.values()];
  }

  /** @throws REPOSITORY_UNKNOWN */
  byName(name: string): Repository {
    const repository = this.#open.get(name);
    if (!repository) throw new SendenseError('REPOSITORY_UNKNOWN', { repository: name });
    return repository;
  }

  /** @throws REPOSITORY_UNKNOWN, REPOSITORY_UNAVAILABLE */
  async setCompression(name: string, compression: Compression): Promise<Repository> {
    const repository = this.byName(name);
    await writeCompression(repository, compression);
    const changed = { ...repository, compression };
    this.#open.set(name, changed);
    return changed;
  }

  /** From now on nobody finds it here; its files stay. */
  forget(id: string): void {
    for (const [name, repository] of this.#open) if (repository.id === id) this.#open.delete(name);
  }

  /** @throws REPOSITORY_UNAVAILABLE */
  byId(id: string): Repository {
    const repository = this.all().find((candidate) => candidate.id === id);
    if (!repository)
      throw new SendenseError('REPOSITORY_UNAVAILABLE', { path: id, detail: 'it is not open' });
    return repository;
  }

  async #attach(name: string, root: string, expectedId: string | null): Promise<Repository> {
    const repository = await openRepository(name, root, this.#clock, expectedId);
    const twin = this.all().find((known) => known.id === repository.id);
    if (twin)
      throw new SendenseError('REPOSITORY_EXISTS', {
        repository: twin.name,
        detail: `${root} is a copy of ${twin.root}`,
      });
    this.#catalog.repositories.save(repository, this.#clock.now());
    this.#open.set(name, repository);
    await this.#settle(repository);
    await this.#adopt(repository);
    return repository;
  }

  async #settle(repository: Repository): Promise<void> {
    for (const { vmUuid, detail } of await settleRepository(repository.root, this.#settling)) {
      this.#catalog.events.add({
        kind: 'repository.unsettled',
        severity: 'error',
        subject: repository.name,
        message: `The machine folder ${vmUuid} could not be cleaned up after an interruption: ${detail}`,
        data: { path: repository.root, vm_uuid: vmUuid },
      });
    }
  }

  /** Takes over what the catalogue does not know, one machine at a time. */
  async #adopt(repository: Repository): Promise<void> {
    const adopted: string[] = [];
    for await (const { content, unreadable } of readMachines(repository.root)) {
      for (const { path, error } of unreadable) {
        this.#catalog.events.add({
          kind: 'repository.unreadable',
          severity: 'error',
          subject: repository.name,
          message: error.message,
          data: { path },
        });
      }
      if (content)
        adopted.push(...(await adoptMachine(this.#catalog, repository, content, this.#clock.now())).adopted);
    }
    if (adopted.length === 0) return;
    this.#catalog.events.add({
      kind: 'repository.adopted',
      severity: 'warning',
      subject: repository.name,
      message: `${adopted.length} backups were found in the repository that the catalogue did not know.`,
      data: { backups: adopted.slice(0, MAX_TOLD) },
    });
  }
}
