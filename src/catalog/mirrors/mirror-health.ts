import type { Db } from '../open/open-catalog.ts';

/** The last verification of a mirror that ended. */
export interface MirrorVerified {
  /** How often a part of the blocks was read. */
  readonly deepRuns: number;
  /** ISO 8601, UTC. */
  readonly at: string;
  readonly problems: number;
}

/** What verifications found out about mirrors. */
export function mirrorHealthQueries(db: Db) {
  const damaged = db.prepare<[string], { point: string }>(
    'SELECT point FROM mirror_damaged WHERE mirror = ? ORDER BY point',
  );
  const addDamaged = db.prepare<[string, string]>(
    'INSERT OR IGNORE INTO mirror_damaged (mirror, point) VALUES (?, ?)',
  );
  const clearDamaged = db.prepare<[string, string]>(
    'DELETE FROM mirror_damaged WHERE mirror = ? AND point = ?',
  );
  const verified = db.prepare<[string], { deep_runs: number; at: string; problems: number }>(
    'SELECT deep_runs, at, problems FROM mirror_verified WHERE mirror = ?',
  );
  const saveVerified = db.prepare<[string, number, string, number]>(
    `INSERT INTO mirror_verified (mirror, deep_runs, at, problems) VALUES (?, ?, ?, ?)
     ON CONFLICT (mirror) DO UPDATE SET
       deep_runs = excluded.deep_runs, at = excluded.at, problems = excluded.problems`,
  );
  return {
    /** Names of points that are not to be relied on. */
    damaged: (mirror: string): string[] => damaged.all(mirror).map(({ point }) => point),
    addDamaged: db.transaction((mirror: string, points: readonly string[]) => {
      for (const point of points) addDamaged.run(mirror, point);
    }),
    /** They were made anew, or are gone. */
    clearDamaged: db.transaction((mirror: string, points: readonly string[]) => {
      for (const point of points) clearDamaged.run(mirror, point);
    }),
    verified: (mirror: string): MirrorVerified | null => {
      const row = verified.get(mirror);
      return row ? { deepRuns: row.deep_runs, at: row.at, problems: row.problems } : null;
    },
    saveVerified: (mirror: string, { deepRuns, at, problems }: MirrorVerified): void => {
      saveVerified.run(mirror, deepRuns, at, problems);
    },
  };
}
