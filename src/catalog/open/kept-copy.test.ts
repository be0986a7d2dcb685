import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { openCatalog } from './open-catalog.ts';

const migrations = new URL('../migrations/', import.meta.url);
const OLD_VERSION = 5;
let folder: string;
let file: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'sd-catalog-'));
  file = join(folder, 'catalog.db');
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** As an older program left it: one row, in the WAL only, as after a crash. */
function oldCatalog(): Database.Database {
  const db = new Database(file);
  db.pragma('journal_mode = WAL');
  for (const name of readdirSync(migrations).toSorted()) {
    if (Number(name.slice(0, 4)) > OLD_VERSION) continue;
    db.exec(readFileSync(new URL(name, migrations), 'utf8'));
  }
  db.pragma(`user_version = ${OLD_VERSION}`);
  db.exec(`INSERT INTO backup_repositories (id, name, repository_type, config, created_at, updated_at)
    VALUES ('r', 'local', 'local', '{}', '', '')`);
  return db;
}

const names = () =>
  readdirSync(folder)
    .filter((name) => !/-(wal|shm)$/.test(name))
    .toSorted();

it('keeps the older catalogue before it changes it, with what only the WAL has', () => {
  const old = oldCatalog();
  openCatalog(file).close();
  old.close();
  expect(names()).toEqual(['catalog.db', `catalog.db.before-${OLD_VERSION + 1}`]);
  const copy = new Database(join(folder, `catalog.db.before-${OLD_VERSION + 1}`), { readonly: true });
  expect(copy.pragma('user_version', { simple: true })).toBe(OLD_VERSION);
  expect(copy.prepare('SELECT name FROM backup_repositories').all()).toEqual([{ name: 'local' }]);
  expect(copy.pragma('integrity_check', { simple: true })).toBe('ok');
  copy.close();
});

it('makes no copy of a new catalogue, nor of one that is up to date', () => {
  openCatalog(file).close();
  openCatalog(file).close();
  expect(names()).toEqual(['catalog.db']);
});

it('does not change a catalogue that it cannot copy', () => {
  oldCatalog().close();
  // a folder in the place of the copy: nothing can be renamed onto it
  const place = new URL(`file://${file}.before-${OLD_VERSION + 1}/`);
  mkdirSync(place);
  expect(() => openCatalog(file)).toThrow();
  const db = new Database(file, { readonly: true });
  expect(db.pragma('user_version', { simple: true })).toBe(OLD_VERSION);
  db.close();
  expect(existsSync(place)).toBe(true);
});
