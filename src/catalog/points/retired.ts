import type { Manifest } from '../../repository/documents.ts';
import type { ChainMember } from '../../repository/layers/chains.ts';
import type { Db } from '../open/open-catalog.ts';

/** A deleted backup of which layers remain. */
export interface RetiredBackup extends ChainMember {
  readonly contextId: string;
  readonly repositoryId: string;
  readonly completedAt: string;
  readonly retired: true;
}

interface RetiredRow {
  id: string;
  vm_context_id: string;
  repository_id: string;
  completed_at: string;
  disks: string;
}

export function retiredQueries(db: Db) {
  const drop = db.prepare<[string, string]>(
    'DELETE FROM retired_backups WHERE vm_context_id = ? AND repository_id = ?',
  );
  const values = `INTO retired_backups (id, vm_context_id, repository_id, completed_at, disks)
     VALUES (@id, @contextId, @repositoryId, @completedAt, @disks)`;
  const insert = db.prepare(`INSERT ${values}`);
  const upsert = db.prepare(`INSERT OR REPLACE ${values}`);
  const rowOf = (contextId: string, repositoryId: string, manifest: Manifest) => {
    const disks: ChainMember['disks'] = manifest.disks.map((disk) => ({
      diskIndex: disk.disk_index,
      layer: disk.layer,
      parentLayer: disk.parent_layer,
      parentBackupId: disk.parent_backup_id,
      fileBytes: disk.file_bytes,
    }));
    const { backup_id: id, completed_at: completedAt } = manifest;
    return { id, contextId, repositoryId, completedAt, disks: JSON.stringify(disks) };
  };
  const ofVm = db.prepare<[string, string], RetiredRow>(
    'SELECT * FROM retired_backups WHERE vm_context_id = ? AND repository_id = ? ORDER BY completed_at, id',
  );
  const count = db.prepare<[string], number>('SELECT COUNT(*) FROM retired_backups WHERE id = ?').pluck();
  return {
    has: (id: string): boolean => (count.get(id) ?? 0) > 0,
    /** Takes over what the tombstones of a machine say. @param retired with the disks whose layers are still there */
    replace: db.transaction((contextId: string, repositoryId: string, retired: readonly Manifest[]) => {
      drop.run(contextId, repositoryId);
      for (const manifest of retired) insert.run(rowOf(contextId, repositoryId, manifest));
    }),
    /** One more; the layers of many are deleted one after another. */
    add: (contextId: string, repositoryId: string, manifest: Manifest): void => {
      upsert.run(rowOf(contextId, repositoryId, manifest));
    },
    ofVm: (contextId: string, repositoryId: string): RetiredBackup[] =>
      ofVm.all(contextId, repositoryId).map((row) => ({
        id: row.id,
        contextId: row.vm_context_id,
        repositoryId: row.repository_id,
        completedAt: row.completed_at,
        retired: true,
        disks: JSON.parse(row.disks) as ChainMember['disks'],
      })),
  };
}

export type RetiredQueries = ReturnType<typeof retiredQueries>;
