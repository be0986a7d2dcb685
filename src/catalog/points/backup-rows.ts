import { compareText } from '../../base/compare-text.ts';
import type { ErrorReport } from '../../base/sendense-error.ts';
import type { LayerType } from '../../nbd/exports/export-name.ts';

export type JobStatus = 'pending' | 'running' | 'completed' | 'failed' | 'cancelled';

export interface BackupDisk {
  readonly diskIndex: number;
  readonly diskKey: string;
  readonly type: LayerType;
  readonly reason: string | null;
  readonly layer: string;
  readonly parentLayer: string | null;
  readonly parentBackupId: string | null;
  readonly sizeBytes: number;
  readonly writtenBytes: number;
  readonly fileBytes: number;
  readonly damage: string | null;
  readonly fingerprint: string | null;
  /** When the layer's content was last compared with its rows; null: never. */
  readonly verifiedAt: string | null;
  readonly verifiedOk: boolean | null;
}

export interface Backup {
  readonly id: string;
  readonly jobId: string;
  readonly contextId: string;
  readonly vmName: string;
  readonly type: LayerType;
  readonly status: JobStatus;
  readonly repositoryId: string;
  readonly consistency: string;
  readonly bytesTransferred: number;
  readonly totalBytes: number;
  readonly error: ErrorReport | null;
  readonly createdAt: string;
  readonly startedAt: string | null;
  readonly completedAt: string | null;
  /** The restore point of which this one is a copy. */
  readonly copiedFrom: string | null;
  readonly disks: readonly BackupDisk[];
}

export interface BackupRow {
  id: string;
  job_id: string;
  vm_context_id: string;
  vm_name: string;
  backup_type: LayerType;
  status: JobStatus;
  repository_id: string;
  consistency: string;
  bytes_transferred: number;
  total_bytes: number;
  error: string | null;
  created_at: string;
  started_at: string | null;
  completed_at: string | null;
  copied_from: string | null;
}

export interface DiskRow {
  disk_index: number;
  disk_key: string;
  backup_type: LayerType;
  reason: string | null;
  layer: string;
  parent_layer: string | null;
  parent_backup_id: string | null;
  size_bytes: number;
  written_bytes: number;
  file_bytes: number;
  damage: string | null;
  fingerprint: string | null;
  verified_at: string | null;
  verified_ok: number | null;
}

export const toDisk = (row: DiskRow): BackupDisk => ({
  diskIndex: row.disk_index,
  diskKey: row.disk_key,
  type: row.backup_type,
  reason: row.reason,
  layer: row.layer,
  parentLayer: row.parent_layer,
  parentBackupId: row.parent_backup_id,
  sizeBytes: row.size_bytes,
  writtenBytes: row.written_bytes,
  fileBytes: row.file_bytes,
  damage: row.damage,
  fingerprint: row.fingerprint,
  verifiedAt: row.verified_at,
  verifiedOk: row.verified_ok === null ? null : row.verified_ok === 1,
});

export const byCompletion = (
  a: Pick<Backup, 'id' | 'completedAt'>,
  b: Pick<Backup, 'id' | 'completedAt'>,
): number => compareText(a.completedAt ?? '', b.completedAt ?? '') || compareText(a.id, b.id);

export const toBackup = (row: BackupRow, disks: readonly BackupDisk[]): Backup => ({
  id: row.id,
  jobId: row.job_id,
  contextId: row.vm_context_id,
  vmName: row.vm_name,
  type: row.backup_type,
  status: row.status,
  repositoryId: row.repository_id,
  consistency: row.consistency,
  bytesTransferred: row.bytes_transferred,
  totalBytes: row.total_bytes,
  error: row.error === null ? null : (JSON.parse(row.error) as ErrorReport),
  createdAt: row.created_at,
  startedAt: row.started_at,
  completedAt: row.completed_at,
  copiedFrom: row.copied_from,
  disks,
});
