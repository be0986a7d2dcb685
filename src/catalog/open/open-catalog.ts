import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
} from 'node:fs';
import { dirname } from 'node:path';
import Database from 'better-sqlite3';
import { partFolder } from '../../base/own-files.ts';
import { SendenseError } from '../../base/sendense-error.ts';

export type Db = Database.Database;

// SQL is part of the sources as well as of what is compiled
const migrationFolder = partFolder('catalog/migrations');

/** Forward only: file N brings the database from version N-1 to N. */
function migrations(): { version: number; sql: string }[] {
  return readdirSync(migrationFolder)
    .filter((name) => /^\d{4}-.*\.sql$/.test(name))
    .sort()
    .map((name) => ({
      version: Number(name.slice(0, 4)),
      sql: readFileSync(new URL(name, migrationFolder), 'utf8'),
    }));
}

/**
 * Opens the database and brings it to the newest version. WAL with full sync: what was committed survives a
 * power cut. Before an older one is changed, a copy of it is kept as `catalog.db.before-N`, N being the first version that it
 * does not have yet: with it the older program can be used again.
 * @throws FORMAT_TOO_NEW when a newer Sendense wrote it; CATALOG_DAMAGED when it can be seen at once that it is no
 * database any more. Its pages are not all read: that would make every start slow.
 */
export function openCatalog(file: string): Db {
  try {
    return openAndMigrate(file);
  } catch (error) {
    const isDamaged = error instanceof Database.SqliteError && /^SQLITE_(NOTADB|CORRUPT)/.test(error.code);
    if (!isDamaged) throw error;
    throw new SendenseError('CATALOG_DAMAGED', { path: file, detail: error.message }, error);
  }
}

function openAndMigrate(file: string): Db {
  mkdirSync(dirname(file), { recursive: true, mode: 0o750 });
  const db = new Database(file);
  db.pragma('journal_mode = WAL');
  db.pragma('synchronous = FULL');
  const known = migrations();
  const newest = known.at(-1)?.version ?? 0;
  const current = Number(db.pragma('user_version', { simple: true }));
  if (current > newest) {
    db.close();
    throw new SendenseError('FORMAT_TOO_NEW', { path: file, format: current, supported: newest });
  }
  // a file without a version is a new one
  if (current > 0 && current < newest) keepCopy(db, file, current);
  // a table that is made anew must not take the rows that refer to it along
  db.pragma('foreign_keys = OFF');
  for (const { version, sql } of known.filter((migration) => migration.version > current)) {
    db.transaction(() => {
      db.exec(sql);
      const [broken] = db.pragma('foreign_key_check') as unknown[];
      if (broken !== undefined)
        throw new SendenseError('INTERNAL', {
          detail: `migration ${version} breaks ${JSON.stringify(broken)}`,
        });
      db.pragma(`user_version = ${version}`);
    })();
  }
  db.pragma('foreign_keys = ON');
  return db;
}

/** Whole or not at all, with everything that only the WAL has; one from a start that was cut off is made anew. */
function keepCopy(db: Db, file: string, version: number): void {
  const copy = `${file}.before-${version + 1}`;
  const partial = `${copy}.partial`;
  rmSync(partial, { force: true });
  db.prepare('VACUUM INTO ?').run(partial);
  // VACUUM INTO does not sync what it wrote
  const written = openSync(partial, 'r+');
  fsyncSync(written);
  closeSync(written);
  renameSync(partial, copy);
  const folder = openSync(dirname(copy), 'r');
  fsyncSync(folder);
  closeSync(folder);
}
