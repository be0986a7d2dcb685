import type { Db } from '../open/open-catalog.ts';

export function repositorySizeQueries(db: Db) {
  const save = db.prepare(
    `INSERT INTO repository_sizes (repository_id, day, used_bytes) VALUES (@repositoryId, @day, @usedBytes)
     ON CONFLICT (repository_id, day) DO UPDATE SET used_bytes = @usedBytes`,
  );
  const recent = db.prepare<[string, number], { day: string; used_bytes: number }>(
    'SELECT day, used_bytes FROM repository_sizes WHERE repository_id = ? ORDER BY day DESC LIMIT ?',
  );
  const warn = db.prepare<[string, string]>(
    'UPDATE repository_sizes SET warned = 1 WHERE repository_id = ? AND day = ? AND warned = 0',
  );
  return {
    /** @param day as in `2026-11-20` */
    save: (repositoryId: string, day: string, usedBytes: number) =>
      save.run({ repositoryId, day, usedBytes }),
    /** Newest first. */
    recent: (repositoryId: string, count: number) =>
      recent.all(repositoryId, count).map((row) => ({ day: row.day, usedBytes: row.used_bytes })),
    /** True for the first to say it on this day. */
    isFirstWarning: (repositoryId: string, day: string): boolean => warn.run(repositoryId, day).changes === 1,
  };
}

export type RepositorySizeQueries = ReturnType<typeof repositorySizeQueries>;
