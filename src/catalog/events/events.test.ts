import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { actingAs } from '../../base/actor.ts';
import { systemClock } from '../../base/clock.ts';
import { type Catalog, createCatalog } from '../catalog.ts';

let folder = '';
const file = () => join(folder, 'catalog.db');
const open = () => createCatalog(file(), systemClock, pino({ level: 'silent' }));
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'sd-ev-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const add = (catalog: Catalog, message: string) =>
  catalog.events.add({ kind: 'x', severity: 'info', subject: null, message, data: { n: message.length } });
const problems = async () => {
  using catalog = open();
  return (await catalog.events.verify()).problems.map(({ id, problem }) => [problem, id]);
};
/** As somebody who can write the file, with another program. */
const tamper = (sql: string) => {
  using db = { of: new Database(file()), [Symbol.dispose]: () => db.of.close() };
  db.of.exec(sql);
};
const fill = (count: number) => {
  using catalog = open();
  for (let n = 1; n <= count; n += 1) add(catalog, 'm'.repeat(n));
};

test('what nobody touched is as it was written, and says on whose behalf', async () => {
  fill(5);
  using catalog = open();
  actingAs({ who: 'token ci', from: '192.0.2.1' }, () => add(catalog, 'theirs'));
  const report = await catalog.events.verify();
  expect([report.rows, report.problems]).toEqual([6, []]);
  expect(catalog.events.list(2)).toMatchObject([
    { actor: 'token ci', origin: '192.0.2.1', message: 'theirs' },
    { actor: null, origin: null },
  ]);
});

test.each<[string, string, (string | number)[][]]>([
  ['a changed text', `UPDATE events SET message = 'other' WHERE id = 3`, [['changed', 3]]],
  ['a changed actor', `UPDATE events SET actor = 'nobody' WHERE id = 3`, [['changed', 3]]],
  [
    'a changed hash',
    `UPDATE events SET hash = 'ab' WHERE id = 3`,
    [
      ['changed', 3],
      ['changed', 4],
    ],
  ],
  ['a row removed', 'DELETE FROM events WHERE id = 3', [['removed', 4]]],
  ['the first row removed', 'DELETE FROM events WHERE id = 1', [['removed', 2]]],
  [
    'a row inserted without a hash',
    `INSERT INTO events (at, kind, severity, message) VALUES ('t', 'x', 'info', 'false')`,
    [['inserted', 6]],
  ],
  [
    'a row inserted with the hash of another',
    `INSERT INTO events (at, kind, severity, message, hash) SELECT at, kind, severity, 'false', hash FROM events WHERE id = 5`,
    [['changed', 6]],
  ],
  [
    'two rows exchanged',
    'UPDATE events SET id = 9 WHERE id = 2; UPDATE events SET id = 2 WHERE id = 3; UPDATE events SET id = 3 WHERE id = 9',
    [
      ['changed', 2],
      ['changed', 3],
      ['changed', 4],
    ],
  ],
])('%s is found', async (_what, sql, wanted) => {
  fill(5);
  tamper(sql);
  const found = await problems();
  expect(found.slice(0, wanted.length)).toEqual(wanted);
});

test('an end that is cut off is found by the count of the database, and by the anchor', async () => {
  fill(5);
  tamper('DELETE FROM events WHERE id > 3');
  using catalog = open();
  // the daemon saw it when it opened the file, kept the anchor, and wrote on
  expect(catalog.events.list(1)[0]).toMatchObject({ kind: 'events.broken', data: { anchor_id: 5 } });
  expect(readdirSync(folder).filter((name) => name.startsWith('events-anchor.json.')).length).toBe(1);
});

test('an end that is cut off with its count is found by the anchor alone, while nobody opened it', async () => {
  using catalog = open();
  for (let n = 1; n <= 5; n += 1) add(catalog, 'm');
  await expect
    .poll(() => (JSON.parse(readFileSync(join(folder, 'events-anchor.json'), 'utf8')) as { id: number }).id, {
      timeout: 5000,
    })
    .toBe(5);
  tamper(`DELETE FROM events WHERE id > 3; UPDATE sqlite_sequence SET seq = 3 WHERE name = 'events'`);
  const report = await catalog.events.verify();
  expect(report.problems).toMatchObject([{ id: 5, problem: 'cut-off' }]);
});

test('a log that was written anew from its beginning does not fit to what was kept elsewhere', async () => {
  fill(3);
  using catalog = open();
  const { id, hash } = catalog.events.head() ?? { id: 0, hash: '' };
  add(catalog, 'later');
  const kept = { id, hash, at: 'some time' };
  expect((await catalog.events.verify(kept)).problems).toEqual([]);
  const other = { ...kept, hash: hash.replace(/^./, (digit) => (digit === '0' ? '1' : '0')) };
  expect((await catalog.events.verify(other)).problems).toMatchObject([{ id: 3, problem: 'replaced' }]);
});

test('what is rolled back leaves no gap', async () => {
  using catalog = open();
  add(catalog, 'one');
  expect(() =>
    catalog.transaction(() => {
      add(catalog, 'never');
      throw new Error('rolled back');
    }),
  ).toThrow('rolled back');
  add(catalog, 'two');
  const report = await catalog.events.verify();
  expect([report.rows, report.problems]).toEqual([2, []]);
});

test('the rows of an older release are chained when they are first opened', async () => {
  fill(3);
  rmSync(join(folder, 'events-anchor.json'));
  tamper('UPDATE events SET hash = NULL');
  expect(await problems()).toEqual([]);
  tamper(`UPDATE events SET message = 'other' WHERE id = 2`);
  expect(await problems()).toEqual([['changed', 2]]);
});
