import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import Database from 'better-sqlite3';
import { SendenseError } from './sendense-error.ts';

/**
 * Makes this process the only daemon of its home. SQLite's exclusive lock is a kernel file lock: it goes with the
 * process, however that ends, and needs no stale file to be cleaned up.
 * @throws DAEMON_RUNNING
 */
export function lockHome(lockFile: string, home: string): Disposable {
  mkdirSync(dirname(lockFile), { recursive: true, mode: 0o750 });
  const db = new Database(lockFile, { timeout: 0 });
  try {
    db.pragma('locking_mode = EXCLUSIVE');
    db.exec('BEGIN EXCLUSIVE');
  } catch (error) {
    db.close();
    throw new SendenseError('DAEMON_RUNNING', { pid: 'unknown', home }, error);
  }
  return { [Symbol.dispose]: () => db.close() };
}
