import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { hasCode, toSendenseError } from '../../base/sendense-error.ts';
import { openCatalog } from './open-catalog.ts';

const work = mkdtempSync(join(tmpdir(), 'sd-open-catalog-'));
afterAll(() => rmSync(work, { recursive: true, force: true }));

const thrownBy = (action: () => unknown): unknown => {
  try {
    action();
  } catch (error) {
    return error;
  }
  return null;
};

it('a file that is no database is a damaged catalogue, and is left as it is', () => {
  const file = join(work, 'catalog.db');
  writeFileSync(file, Buffer.alloc(8192, 'not a database '));
  const error = thrownBy(() => openCatalog(file));
  expect(hasCode(error, 'CATALOG_DAMAGED')).toBe(true);
  expect(toSendenseError(error)).toMatchObject({ fields: { path: file, detail: 'file is not a database' } });
});

it('a database that finds no space says so', () => {
  const db = openCatalog(join(work, 'small.db'));
  db.pragma(`max_page_count = ${Number(db.pragma('page_count', { simple: true })) + 1}`);
  const error = thrownBy(() =>
    db.exec('CREATE TABLE large (bytes BLOB); INSERT INTO large VALUES (zeroblob(1000000))'),
  );
  db.close();
  expect(toSendenseError(error).code).toBe('DISK_FULL');
});
