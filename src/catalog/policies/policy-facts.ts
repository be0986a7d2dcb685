import type { Db } from '../open/open-catalog.ts';

/** A restore point and when its content was last compared with its digests, as a whole. */
export interface VerifiablePoint {
  readonly id: string;
  readonly bytes: number;
  /** Of the disk that was looked at longest ago; null: one was never looked at. */
  readonly verifiedAt: string | null;
}

/** What the runs of policies ask about one machine in one repository. Each is answered from an index. */
export function policyFactQueries(db: Db) {
  const newest = db
    .prepare<[string, string], string>(
      `SELECT id FROM backup_jobs WHERE vm_context_id = ? AND repository_id = ? AND status = 'completed'
        ORDER BY created_at DESC, id DESC LIMIT 1`,
    )
    .pluck();
  const newestFull = db
    .prepare<[string, string], string>(
      'SELECT made_at FROM vm_fulls WHERE vm_context_id = ? AND repository_id = ?',
    )
    .pluck();
  const verifiable = db.prepare<
    [string, string],
    { id: string; bytes: number; verified: string | null; unverified: number }
  >(
    `SELECT b.id, SUM(d.file_bytes) AS bytes, MIN(d.verified_at) AS verified, SUM(d.verified_at IS NULL) AS unverified
       FROM backup_jobs b JOIN backup_disks d ON d.backup_id = b.id
      WHERE b.vm_context_id = ? AND b.repository_id = ? AND b.status = 'completed'
      GROUP BY b.id ORDER BY b.created_at, b.id`,
  );
  const missing = db
    .prepare<{ contextId: string; mirror: string }, number>(
      `SELECT 1 FROM backup_jobs b WHERE b.vm_context_id = @contextId AND b.status = 'completed' AND b.copied_from IS NULL
          AND NOT EXISTS (SELECT 1 FROM mirror_points p WHERE p.mirror = @mirror AND p.backup_id = b.id)
          AND NOT EXISTS (SELECT 1 FROM mirror_pruned p WHERE p.mirror = @mirror AND p.backup_id = b.id) LIMIT 1`,
    )
    .pluck();
  return {
    /** Id of the newest restore point. */
    newest: (contextId: string, repositoryId: string): string | null =>
      newest.get(contextId, repositoryId) ?? null,
    /** When the newest one began that was asked for as a full; retention may have deleted it since. */
    newestFull: (contextId: string, repositoryId: string): string | null =>
      newestFull.get(contextId, repositoryId) ?? null,
    /** Oldest first. */
    verifiable: (contextId: string, repositoryId: string): VerifiablePoint[] =>
      verifiable.all(contextId, repositoryId).map(({ id, bytes, verified, unverified }) => ({
        ...{ id, bytes },
        verifiedAt: unverified > 0 ? null : verified,
      })),
    /** Some restore point of the machine is not in the mirror, and retention did not remove it there. */
    isMissingIn: (mirror: string, contextId: string): boolean =>
      missing.get({ contextId, mirror }) !== undefined,
  };
}

export type PolicyFactQueries = ReturnType<typeof policyFactQueries>;
