import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { expect, it } from 'vitest';
import { openCatalog } from '../open/open-catalog.ts';

const migrations = new URL('../migrations/', import.meta.url);

it('a catalogue from before policies keeps its rows, and knows what was verified and when a full was made', () => {
  const folder = mkdtempSync(join(tmpdir(), 'sd-migration-'));
  const file = join(folder, 'catalog.db');
  try {
    const old = new Database(file);
    old.pragma('foreign_keys = OFF');
    for (const name of readdirSync(migrations)
      .filter((one) => one < '0020')
      .toSorted()) {
      old.exec(readFileSync(new URL(name, migrations), 'utf8'));
      old.pragma(`user_version = ${Number(name.slice(0, 4))}`);
    }
    old.exec(`
      INSERT INTO backup_repositories (id, name, repository_type, config, created_at, updated_at) VALUES ('r', 'local', 'local', '{}', '', '');
      INSERT INTO vm_contexts (context_id, vm_uuid, vm_name, source, created_at, updated_at) VALUES ('c', 'u', 'web1', '{"kind":"image"}', '', '');
      INSERT INTO backup_jobs (id, job_id, vm_context_id, vm_name, backup_type, status, repository_id, created_at) VALUES
        ('a', 'j', 'c', 'web1', 'full', 'completed', 'r', '2026-05-01'), ('b', 'j', 'c', 'web1', 'full', 'failed', 'r', '2026-05-02'),
        ('d', 'j', 'c', 'web1', 'incremental', 'completed', 'r', '2026-05-03');
      INSERT INTO backup_disks (backup_id, disk_index, disk_key, backup_type, layer, size_bytes, written_bytes, file_bytes, verified_at, verified_ok)
        VALUES ('a', 0, '/srv/a', 'full', 'l', 1, 1, 1, '2026-05-04', 1), ('d', 0, '/srv/a', 'incremental', 'm', 1, 1, 1, NULL, NULL);`);
    old.close();

    const db = openCatalog(file);
    const all = (sql: string) => db.prepare(sql).all();
    expect(all('SELECT vm_name, labels, unprotected FROM vm_contexts')).toEqual([
      { vm_name: 'web1', labels: '{}', unprotected: null },
    ]);
    expect(all('SELECT * FROM vm_verified')).toEqual([{ vm_context_id: 'c', verified_at: '2026-05-04' }]);
    const fulls = () => all('SELECT made_at FROM vm_fulls');
    expect(fulls()).toEqual([{ made_at: '2026-05-01' }]);
    // and goes on knowing it, also of what is deleted later
    db.exec("UPDATE backup_jobs SET status = 'completed' WHERE id = 'b'");
    db.exec("UPDATE backup_disks SET verified_at = '2026-05-05' WHERE backup_id = 'd'");
    db.exec('DELETE FROM backup_jobs');
    expect(fulls()).toEqual([{ made_at: '2026-05-02' }]);
    expect(all('SELECT verified_at FROM vm_verified')).toEqual([{ verified_at: '2026-05-05' }]);
    db.exec('DELETE FROM vm_contexts');
    expect([...fulls(), ...all('SELECT * FROM vm_verified')]).toEqual([]);
    db.close();
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
