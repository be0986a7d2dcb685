import type { Db } from './open/open-catalog.ts';

/** What is measured of a machine. Times are ISO 8601; null: never. */
export interface MachineMeasures {
  readonly name: string;
  readonly lastSuccessAt: string | null;
  readonly lastSeconds: number | null;
  readonly lastBytes: number | null;
  /** Newest restore point, copies included, in which no damage is known. */
  readonly newestGoodAt: string | null;
  readonly lastVerifiedAt: string | null;
  /** False: the newest attempt failed. Null: there was none. */
  readonly lastOk: boolean | null;
  /** Layers of the longest chain. */
  readonly chainDepth: number;
}

export interface MirrorMeasures {
  readonly mirror: string;
  /** Restore points of its machines that it has not got. */
  readonly missing: number;
  /** When the oldest of them was completed. */
  readonly oldestMissingAt: string | null;
}

/** Few queries over everything, as metrics want them: with ten thousand machines a query for each would take too long. */
export function measureQueries(db: Db) {
  const machines = db.prepare<[], { context_id: string; vm_name: string }>(
    'SELECT context_id, vm_name FROM vm_contexts WHERE registered = 1 ORDER BY vm_name',
  );
  // bare columns beside max() are those of the row that has it
  const successes = db.prepare<[], { id: string; at: string; seconds: number | null; bytes: number }>(
    `SELECT vm_context_id AS id, max(completed_at) AS at, (julianday(completed_at) - julianday(started_at)) * 86400 AS seconds, bytes_transferred AS bytes
       FROM backup_jobs WHERE status = 'completed' AND copied_from IS NULL GROUP BY vm_context_id`,
  );
  const good = db.prepare<[], { id: string; at: string }>(
    `SELECT vm_context_id AS id, max(completed_at) AS at FROM backup_jobs
      WHERE status = 'completed' AND id NOT IN (SELECT backup_id FROM backup_disks WHERE damage IS NOT NULL OR verified_ok = 0)
      GROUP BY vm_context_id`,
  );
  const attempts = db.prepare<[], { id: string; at: string; status: string }>(
    `SELECT vm_context_id AS id, max(created_at) AS at, status FROM backup_jobs
      WHERE status IN ('completed', 'failed') AND copied_from IS NULL GROUP BY vm_context_id`,
  );
  const verified = db.prepare<[], { id: string; at: string | null }>(
    `SELECT b.vm_context_id AS id, max(d.verified_at) AS at FROM backup_disks d JOIN backup_jobs b ON b.id = d.backup_id GROUP BY b.vm_context_id`,
  );
  const depths = db.prepare<[], { id: string; depth: number }>(
    'SELECT vm_context_id AS id, max(total_backups) AS depth FROM backup_chains GROUP BY vm_context_id',
  );
  const jobs = db.prepare<[], { status: string; count: number }>(
    `SELECT status, count(*) AS count FROM jobs WHERE status IN ('pending', 'running') GROUP BY status`,
  );
  const events = db.prepare<[], { kind: string; severity: string; count: number }>(
    'SELECT kind, severity, count(*) AS count FROM events GROUP BY kind, severity',
  );
  const missing = db.prepare<[{ mirror: string; vms: string }], { count: number; oldest: string | null }>(
    `SELECT count(*) AS count, min(completed_at) AS oldest FROM backup_jobs b
      WHERE status = 'completed' AND copied_from IS NULL AND (@vms = '[]' OR vm_name IN (SELECT value FROM json_each(@vms)))
        AND NOT EXISTS (SELECT 1 FROM mirror_points p WHERE p.mirror = @mirror AND p.backup_id = b.id)
        AND NOT EXISTS (SELECT 1 FROM mirror_pruned p WHERE p.mirror = @mirror AND p.backup_id = b.id)`,
  );
  const tables = db
    .prepare<[], string>(
      `SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name`,
    )
    .pluck();
  const pragma = (name: string) => Number(db.pragma(name, { simple: true }));
  return {
    /** How much there is of everything, for who has to find out why it is slow. */
    statistics: () => ({
      schemaVersion: pragma('user_version'),
      bytes: pragma('page_count') * pragma('page_size'),
      freeBytes: pragma('freelist_count') * pragma('page_size'),
      rows: Object.fromEntries(
        // the names are those of our own migrations
        tables
          .all()
          .map((table) => [
            table,
            db.prepare<[], number>(`SELECT count(*) FROM "${table}"`).pluck().get() ?? 0,
          ]),
      ),
    }),
    machines: (): MachineMeasures[] => {
      const by = <T extends { id: string }>(rows: readonly T[]) => new Map(rows.map((row) => [row.id, row]));
      const success = by(successes.all());
      const newest = by(good.all());
      const attempt = by(attempts.all());
      const verdict = by(verified.all());
      const depth = by(depths.all());
      return machines.all().map(({ context_id: id, vm_name: name }) => ({
        name,
        lastSuccessAt: success.get(id)?.at ?? null,
        lastSeconds: success.get(id)?.seconds ?? null,
        lastBytes: success.get(id)?.bytes ?? null,
        newestGoodAt: newest.get(id)?.at ?? null,
        lastVerifiedAt: verdict.get(id)?.at ?? null,
        lastOk: attempt.has(id) ? attempt.get(id)?.status === 'completed' : null,
        chainDepth: depth.get(id)?.depth ?? 0,
      }));
    },
    unfinishedJobs: () => jobs.all(),
    /** Reads all events: once at the start. */
    eventCounts: () => events.all(),
    /** @param vms of which machines it takes restore points; none: of all */
    mirror: (mirror: string, vms: readonly string[]): MirrorMeasures => {
      const row = missing.get({ mirror, vms: JSON.stringify(vms) });
      return { mirror, missing: row?.count ?? 0, oldestMissingAt: row?.oldest ?? null };
    },
  };
}

export type MeasureQueries = ReturnType<typeof measureQueries>;
