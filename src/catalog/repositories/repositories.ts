import type { Db } from '../open/open-catalog.ts';

export interface RepositoryRecord {
  readonly id: string;
  readonly name: string;
  readonly root: string;
  /** The mount point on which it must lie; null: anywhere. */
  readonly mount: string | null;
  /** Of the last hold; while it still stands in the repository nobody else was there. */
  readonly token: string | null;
  readonly createdAt: string;
}

interface RepositoryConfig {
  readonly path: string;
  readonly mount?: string | null;
  readonly token?: string | null;
}

interface RepositoryRow {
  id: string;
  name: string;
  config: string;
  created_at: string;
}

export function repositoryQueries(db: Db) {
  const all = db.prepare<[], RepositoryRow>(
    'SELECT id, name, config, created_at FROM backup_repositories ORDER BY created_at, name',
  );
  const save = db.prepare(
    `INSERT INTO backup_repositories (id, name, repository_type, config, created_at, updated_at) VALUES (@id, @name, 'local', @config, @now, @now)
     ON CONFLICT (id) DO UPDATE SET name = @name, config = @config, updated_at = @now`,
  );
  const dropChains = db.prepare<[string]>('DELETE FROM backup_chains WHERE repository_id = ?');
  const dropBackups = db.prepare<[string]>('DELETE FROM backup_jobs WHERE repository_id = ?');
  const drop = db.prepare<[string]>('DELETE FROM backup_repositories WHERE id = ?');
  return {
    all: (): RepositoryRecord[] =>
      all.all().map((row) => {
        const { path, mount = null, token = null } = JSON.parse(row.config) as RepositoryConfig;
        return { id: row.id, name: row.name, root: path, mount, token, createdAt: row.created_at };
      }),
    save: (repository: Omit<RepositoryRecord, 'createdAt'>, now: Date) => {
      const config: RepositoryConfig = {
        path: repository.root,
        mount: repository.mount,
        token: repository.token,
      };
      save.run({
        id: repository.id,
        name: repository.name,
        config: JSON.stringify(config),
        now: now.toISOString(),
      });
    },
    /** With the rows of its backups and chains. */
    remove: db.transaction((id: string) => {
      dropChains.run(id);
      dropBackups.run(id);
      drop.run(id);
    }),
  };
}

export type RepositoryQueries = ReturnType<typeof repositoryQueries>;
