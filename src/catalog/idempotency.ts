import type { Db } from './open/open-catalog.ts';

export interface StoredAnswer {
  readonly requestDigest: string;
  /** Null while the first request is still running. */
  readonly status: number | null;
  readonly body: string | null;
}

/** Keys are kept for a day; a client that retries does so within minutes. */
const KEEP_MS = 24 * 3600 * 1000;

export function idempotencyQueries(db: Db) {
  const find = db.prepare<[string], { request_digest: string; status: number | null; body: string | null }>(
    'SELECT request_digest, status, body FROM idempotency_keys WHERE key = ?',
  );
  const begin = db.prepare(
    'INSERT INTO idempotency_keys (key, request_digest, created_at) VALUES (@key, @requestDigest, @at)',
  );
  const finish = db.prepare('UPDATE idempotency_keys SET status = @status, body = @body WHERE key = @key');
  const drop = db.prepare<[string]>('DELETE FROM idempotency_keys WHERE key = ?');
  const expire = db.prepare<[string]>('DELETE FROM idempotency_keys WHERE created_at < ?');
  const dropRunning = db.prepare('DELETE FROM idempotency_keys WHERE status IS NULL');
  return {
    find: (key: string): StoredAnswer | null => {
      const row = find.get(key);
      return row ? { requestDigest: row.request_digest, status: row.status, body: row.body } : null;
    },
    begin: (key: string, requestDigest: string, now: Date) => {
      expire.run(new Date(now.getTime() - KEEP_MS).toISOString());
      begin.run({ key, requestDigest, at: now.toISOString() });
    },
    finish: (key: string, status: number, body: string) => finish.run({ key, status, body }),
    drop: (key: string) => drop.run(key),
    /** At start: a request that was cut off by the daemon's end may be sent again. */
    dropRunning: () => dropRunning.run(),
  };
}

export type IdempotencyQueries = ReturnType<typeof idempotencyQueries>;
