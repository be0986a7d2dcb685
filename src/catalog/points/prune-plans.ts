import type { Db } from '../open/open-catalog.ts';

/** What `prune plan` showed. */
export interface StoredPlan {
  readonly id: string;
  readonly createdAt: string;
  /** As `planPrune` takes it. */
  readonly request: unknown;
  readonly digest: string;
  readonly appliedAt: string | null;
}

interface PlanRow {
  id: string;
  created_at: string;
  request: string;
  digest: string;
  applied_at: string | null;
}

/** Nobody applies a plan that he looked at longer ago. */
const KEEP_MS = 7 * 24 * 3600 * 1000;

export function prunePlanQueries(db: Db) {
  const byId = db.prepare<[string], PlanRow>('SELECT * FROM prune_plans WHERE id = ?');
  const save = db.prepare(
    'INSERT INTO prune_plans (id, created_at, request, digest) VALUES (@id, @createdAt, @request, @digest)',
  );
  const applied = db.prepare<[string, string]>('UPDATE prune_plans SET applied_at = ? WHERE id = ?');
  const expire = db.prepare<[string]>('DELETE FROM prune_plans WHERE created_at < ?');
  return {
    byId: (id: string): StoredPlan | null => {
      const row = byId.get(id);
      if (!row) return null;
      return {
        id: row.id,
        createdAt: row.created_at,
        request: JSON.parse(row.request) as unknown,
        digest: row.digest,
        appliedAt: row.applied_at,
      };
    },
    save: (plan: { id: string; request: unknown; digest: string }, now: Date) => {
      expire.run(new Date(now.getTime() - KEEP_MS).toISOString());
      save.run({ ...plan, request: JSON.stringify(plan.request), createdAt: now.toISOString() });
    },
    applied: (id: string, now: Date) => applied.run(now.toISOString(), id),
  };
}

export type PrunePlanQueries = ReturnType<typeof prunePlanQueries>;
