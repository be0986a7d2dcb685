import { realpath } from 'node:fs/promises';
import { resolve, sep } from 'node:path';
import type { Clock } from '../base/clock.ts';
import { messageOf, SendenseError } from '../base/sendense-error.ts';
import type { Catalog } from '../catalog/catalog.ts';
import { adoptRepository } from '../catalog/record-backup.ts';
import { openRepository, type Repository } from '../repository/open-repository.ts';
import { readRepository } from '../repository/read-repository.ts';
import { finishDeletions } from '../repository/sweep-repository.ts';

/** The repositories that are open in this daemon, by name and by id. */
export class Repositories {
  readonly #catalog: Catalog;
  readonly #clock: Clock;
  readonly #open = new Map<string, Repository>();

  constructor(catalog: Catalog, clock: Clock) {
    this.#catalog = catalog;
    this.#clock = clock;
  }

  /** Opens what the catalogue names and `local`; one that is away is reported and left out. */
  async openAll(localFolder: string): Promise<void> {
    await this.#attach('local', localFolder);
    for (const record of this.#catalog.repositories.all()) {
      if (this.#open.has(record.name)) continue;
      try {
        await this.#attach(record.name, record.root);
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
    return await this.#attach(name, root);
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

  /** @throws REPOSITORY_UNAVAILABLE */
  byId(id: string): Repository {
    const repository = this.all().find((candidate) => candidate.id === id);
    if (!repository)
      throw new SendenseError('REPOSITORY_UNAVAILABLE', { path: id, detail: 'it is not open' });
    return repository;
  }

  async #attach(name: string, root: string): Promise<Repository> {
    const repository = await openRepository(name, root, this.#clock);
    const twin = this.all().find((known) => known.id === repository.id);
    if (twin)
      throw new SendenseError('REPOSITORY_EXISTS', {
        repository: twin.name,
        detail: `${root} is a copy of ${twin.root}`,
      });
    this.#catalog.repositories.save(repository, this.#clock.now());
    this.#open.set(name, repository);
    await finishDeletions(root);
    const content = await readRepository(root);
    for (const { path, error } of content.unreadable) {
      this.#catalog.events.add({
        kind: 'repository.unreadable',
        severity: 'error',
        subject: name,
        message: error.message,
        data: { path },
      });
    }
    const adopted = adoptRepository(this.#catalog, repository, content, this.#clock.now());
    if (adopted.length > 0) {
      this.#catalog.events.add({
        kind: 'repository.adopted',
        severity: 'warning',
        subject: name,
        message: `${adopted.length} backups were found in the repository that the catalogue did not know.`,
        data: { backups: adopted },
      });
    }
    return repository;
  }
}
