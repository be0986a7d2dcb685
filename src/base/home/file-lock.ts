import Database from 'better-sqlite3';

/**
 * Takes a file for this process alone. SQLite's exclusive lock is a kernel file lock: it goes with the process,
 * however that ends, and needs no stale file to be cleaned up. Nobody in this process may open the file by other
 * means: closing it would give the lock away.
 * @returns null when somebody else has it
 */
export function lockFile(path: string): Disposable | null {
  const db = new Database(path, { timeout: 0 });
  try {
    db.pragma('locking_mode = EXCLUSIVE');
    db.pragma('journal_mode = MEMORY'); // no second file: nothing is ever written
    db.exec('BEGIN EXCLUSIVE');
  } catch (error) {
    db.close();
    if (error instanceof Database.SqliteError && error.code.startsWith('SQLITE_BUSY')) return null;
    throw error;
  }
  return { [Symbol.dispose]: () => db.close() };
}
