import type { Statement } from 'better-sqlite3';
import type { Db } from '../open/open-catalog.ts';
import type { BackupRow, JobStatus } from './backup-rows.ts';

export interface BackupFilter {
  readonly contextId?: string;
  /** Only of these machines. */
  readonly contextIds?: readonly string[];
  readonly status?: JobStatus;
  readonly repositoryId?: string;
  /** Only backups before this id in the list's order (newest first). */
  readonly after?: { readonly createdAt: string; readonly id: string };
  readonly limit: number;
}

/** One statement for each set of filters: only then does each find its index. */
export function listStatements(db: Db) {
  const prepared = new Map<string, Statement<[Record<string, string | number>], BackupRow>>();
  return (filter: BackupFilter): BackupRow[] => {
    const { contextId, contextIds, status, repositoryId, after, limit } = filter;
    const conditions = [
      ...(contextId === undefined ? [] : ['vm_context_id = @contextId']),
      ...(contextIds === undefined ? [] : ['vm_context_id IN (SELECT value FROM json_each(@contextIds))']),
      ...(repositoryId === undefined ? [] : ['repository_id = @repositoryId']),
      ...(status === undefined ? [] : ['status = @status']),
      ...(after === undefined ? [] : ['(created_at, id) < (@afterAt, @afterId)']),
    ];
    const where = conditions.length === 0 ? '' : `WHERE ${conditions.join(' AND ')}`;
    const statement =
      prepared.get(where) ??
      db.prepare<[Record<string, string | number>], BackupRow>(
        `SELECT * FROM backup_jobs ${where} ORDER BY created_at DESC, id DESC LIMIT @limit`,
      );
    prepared.set(where, statement);
    return statement.all({
      limit,
      ...(contextId === undefined ? {} : { contextId }),
      ...(contextIds === undefined ? {} : { contextIds: JSON.stringify(contextIds) }),
      ...(repositoryId === undefined ? {} : { repositoryId }),
      ...(status === undefined ? {} : { status }),
      ...(after === undefined ? {} : { afterAt: after.createdAt, afterId: after.id }),
    });
  };
}
