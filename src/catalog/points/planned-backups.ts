import type { Db } from '../open/open-catalog.ts';
import { type Backup, type BackupDisk, byCompletion } from './backup-rows.ts';

/** What the planning of retention needs of a restore point, of which there may be a hundred thousand. */
export interface PlannedBackup extends Pick<Backup, 'id' | 'createdAt' | 'completedAt'> {
  readonly disks: Pick<
    BackupDisk,
    'diskIndex' | 'layer' | 'parentLayer' | 'parentBackupId' | 'fileBytes' | 'damage'
  >[];
}

type PlannedRow = [
  id: string,
  createdAt: string,
  completedAt: string | null,
  diskIndex: number,
  layer: string,
  parentLayer: string | null,
  parentBackupId: string | null,
  fileBytes: number,
  damage: string | null,
];

export function plannedQueries(db: Db) {
  const planned = db
    .prepare<[string, string], PlannedRow>(
      `SELECT id, created_at, completed_at, disk_index, layer, parent_layer, parent_backup_id, file_bytes, damage
       FROM backup_jobs JOIN backup_disks ON backup_disks.backup_id = backup_jobs.id
       WHERE vm_context_id = ? AND repository_id = ? AND status = 'completed' ORDER BY created_at, id, disk_index`,
    )
    .raw();
  return {
    /** Completed backups of a machine in one repository, oldest first, with what planning needs. */
    planned: (contextId: string, repositoryId: string): PlannedBackup[] => {
      const backups: PlannedBackup[] = [];
      for (const row of planned.all(contextId, repositoryId)) {
        const [id, createdAt, completedAt, diskIndex, layer, parentLayer, parentBackupId, fileBytes, damage] =
          row;
        const disk = { diskIndex, layer, parentLayer, parentBackupId, fileBytes, damage };
        const last = backups.at(-1);
        if (last?.id === id) last.disks.push(disk);
        else backups.push({ id, createdAt, completedAt, disks: [disk] });
      }
      // the index gives them by their beginning, which is nearly the same
      return backups.sort(byCompletion);
    },
  };
}
