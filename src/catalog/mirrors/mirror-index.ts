import { mkdirSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import Database from 'better-sqlite3';

const SCHEMA_VERSION = 1;
const schema = `
CREATE TABLE packs (
  n INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  -- ISO 8601, UTC; null: not locked, as far as is known here
  locked_until TEXT
) STRICT;
-- every block that is known to lie in the mirror
CREATE TABLE blocks (
  id BLOB PRIMARY KEY,
  pack INTEGER NOT NULL REFERENCES packs (n) ON DELETE CASCADE,
  at INTEGER NOT NULL,
  len INTEGER NOT NULL,
  zstd INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX blocks_by_pack ON blocks (pack);
-- restore points whose manifest stands, and whose blocks are in this index
CREATE TABLE points (name TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
`;

export interface IndexedBlock {
  readonly packId: string;
  readonly at: number;
  readonly len: number;
  readonly codec: 'raw' | 'zstd';
}

export interface NewBlock {
  readonly id: Buffer;
  readonly at: number;
  readonly len: number;
  readonly codec: 'raw' | 'zstd';
}

/**
 * Which blocks a mirror has, in a file of its own: a cache, made anew from the bucket when it is lost. Being wrong in
 * one direction only costs an upload; the other is prevented by dropping packs here before they are deleted there.
 */
export class MirrorIndex implements Disposable {
  readonly #db: Database.Database;
  readonly #find;
  readonly #addPack;
  readonly #addBlock;

  /** @param mirrorId whose index it is: another one's file is thrown away */
  constructor(file: string, mirrorId: string) {
    this.#db = open(file, mirrorId);
    this.#find = this.#db.prepare<[Buffer], { id: string; at: number; len: number; zstd: number }>(
      'SELECT packs.id, at, len, zstd FROM blocks JOIN packs ON packs.n = blocks.pack WHERE blocks.id = ?',
    );
    this.#addPack = this.#db.prepare<[string, string | null], { n: number }>(
      `INSERT INTO packs (id, locked_until) VALUES (?, ?)
       ON CONFLICT (id) DO UPDATE SET locked_until = max(coalesce(excluded.locked_until, ''), coalesce(locked_until, '')) RETURNING n`,
    );
    this.#addBlock = this.#db.prepare<[Buffer, number, number, number, number]>(
      'INSERT OR IGNORE INTO blocks (id, pack, at, len, zstd) VALUES (?, ?, ?, ?, ?)',
    );
  }

  find(id: Buffer): IndexedBlock | null {
    const row = this.#find.get(id);
    return row ? { packId: row.id, at: row.at, len: row.len, codec: row.zstd === 1 ? 'zstd' : 'raw' } : null;
  }

  addPack(packId: string, blocks: readonly NewBlock[], lockedUntil: string | null = null): void {
    this.#db.transaction(() => {
      const n = this.#addPack.get(packId, lockedUntil)?.n ?? 0;
      for (const { id, at, len, codec } of blocks)
        this.#addBlock.run(id, n, at, len, codec === 'zstd' ? 1 : 0);
    })();
  }

  hasPack(packId: string): boolean {
    return this.#db.prepare('SELECT 1 FROM packs WHERE id = ?').get(packId) !== undefined;
  }

  lockedUntil(packId: string): string | null {
    const row = this.#db
      .prepare<[string], { locked_until: string | null }>('SELECT locked_until FROM packs WHERE id = ?')
      .get(packId);
    return row?.locked_until ?? null;
  }

  setLocked(packId: string, until: string): void {
    this.#db.prepare('UPDATE packs SET locked_until = ? WHERE id = ?').run(until, packId);
  }

  /** What lies in these is uploaded again when it is needed. */
  dropPacks(packIds: Iterable<string>): void {
    const drop = this.#db.prepare('DELETE FROM packs WHERE id = ?');
    this.#db.transaction(() => {
      for (const id of packIds) drop.run(id);
    })();
  }

  hasPoint(name: string): boolean {
    return this.#db.prepare('SELECT 1 FROM points WHERE name = ?').get(name) !== undefined;
  }

  points(): string[] {
    return this.#db
      .prepare<[], { name: string }>('SELECT name FROM points')
      .all()
      .map(({ name }) => name);
  }

  addPoint(name: string): void {
    this.#db.prepare('INSERT OR IGNORE INTO points (name) VALUES (?)').run(name);
  }

  dropPoint(name: string): void {
    this.#db.prepare('DELETE FROM points WHERE name = ?').run(name);
  }

  clear(): void {
    this.#db.exec('DELETE FROM blocks; DELETE FROM packs; DELETE FROM points;');
  }

  [Symbol.dispose](): void {
    this.#db.close();
  }
}

function open(file: string, mirrorId: string): Database.Database {
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  try {
    return prepare(file, mirrorId);
  } catch {
    // a cache that cannot be read is made anew
    for (const suffix of ['', '-wal', '-shm']) rmSync(file + suffix, { force: true });
    return prepare(file, mirrorId);
  }
}

function prepare(file: string, mirrorId: string): Database.Database {
  const db = new Database(file);
  try {
    db.pragma('journal_mode = WAL');
    // losing the last rows in a power cut costs an upload
    db.pragma('synchronous = NORMAL');
    db.pragma('foreign_keys = ON');
    const isNew = Number(db.pragma('user_version', { simple: true })) === 0;
    if (isNew) {
      db.exec(`${schema} CREATE TABLE mirror (id TEXT PRIMARY KEY) STRICT;`);
      db.prepare('INSERT INTO mirror (id) VALUES (?)').run(mirrorId);
      db.pragma(`user_version = ${SCHEMA_VERSION}`);
    }
    const owner = db.prepare<[], { id: string }>('SELECT id FROM mirror').get()?.id;
    const version = Number(db.pragma('user_version', { simple: true }));
    if (owner !== mirrorId || version !== SCHEMA_VERSION) throw new Error('of another mirror');
    return db;
  } catch (error) {
    db.close();
    throw error;
  }
}
