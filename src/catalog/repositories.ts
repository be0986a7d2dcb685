import type { Db } from './open-catalog.ts';

export interface RepositoryRecord {
  readonly id: string;
  readonly name: string;
  readonly root: string;
  readonly createdAt: string;
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
      all.all().map((row) => ({
        id: row.id,
        name: row.name,
        root: (JSON.parse(row.config) as { path: string }).path,
        createdAt: row.created_at,
      })),
    save: (repository: { id: string; name: string; root: string }, now: Date) =>
      save.run({
        id: repository.id,
        name: repository.name,
        config: JSON.stringify({ path: repository.root }),
        now: now.toISOString(),
      }),
    /** With the rows of its backups and chains. */
    remove: db.transaction((id: string) => {
      dropChains.run(id);
      dropBackups.run(id);
      drop.run(id);
    }),
  };
}

export type RepositoryQueries = ReturnType<typeof repositoryQueries>;
