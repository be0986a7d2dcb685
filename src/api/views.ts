import type { Catalog } from '../catalog/catalog.ts';
import type { Job } from '../catalog/jobs.ts';
import type { Backup, BackupDisk } from '../catalog/points/backup-rows.ts';
import type { BootTest } from '../catalog/points/boot-tests.ts';
import type { Vm } from '../catalog/vms.ts';
import { isUnexpected } from '../jobs/backup/plan/plan-disk.ts';
import type { Repositories } from '../jobs/repository/repositories.ts';

/** What a client sees of a backup; keys become snake_case at the edge. */
export function backupView(
  backup: Backup,
  { repositories, catalog }: { readonly repositories: Repositories; readonly catalog: Catalog },
) {
  return {
    backupId: backup.id,
    jobId: backup.jobId,
    vmName: backup.vmName,
    backupType: backup.type,
    status: backup.status,
    repository: repositories.nameOf(backup.repositoryId),
    consistency: backup.consistency,
    bytesTransferred: backup.bytesTransferred,
    totalBytes: backup.totalBytes,
    damaged: backup.disks.some((disk) => disk.damage !== null),
    ...verdictOf(backup.disks),
    error: backup.error,
    createdAt: backup.createdAt,
    startedAt: backup.startedAt,
    completedAt: backup.completedAt,
    copiedFrom: backup.copiedFrom,
    pins: catalog.pins.ofBackup(backup.id).map(({ pinId, reason, until }) => ({ pinId, reason, until })),
    bootTest: bootTestView(catalog.bootTests.ofBackup(backup.id)),
    disks: backup.disks.map((disk) => ({
      diskId: disk.diskIndex,
      key: disk.diskKey,
      backupType: disk.type,
      reason: disk.reason,
      unexpected: isUnexpected(disk.reason),
      layer: disk.layer,
      parentLayer: disk.parentLayer,
      parentBackupId: disk.parentBackupId,
      sizeBytes: disk.sizeBytes,
      writtenBytes: disk.writtenBytes,
      fileBytes: disk.fileBytes,
      damage: disk.damage,
      verifiedAt: disk.verifiedAt,
      verifiedOk: disk.verifiedOk,
    })),
  };
}

/** The newest one; null: it was never booted. */
function bootTestView(test: BootTest | null) {
  if (test === null) return null;
  const { testedAt, outcome, reason, met, tookMs } = test;
  return { testedAt, outcome, reason, met, tookMs };
}

/** Of a whole backup: the oldest verdict of its disks, and none while one disk has none. Pure. */
export function verdictOf(disks: readonly Pick<BackupDisk, 'verifiedAt' | 'verifiedOk'>[]) {
  const times = disks.map((disk) => disk.verifiedAt);
  const isComplete = disks.length > 0 && times.every((time) => time !== null);
  const isBad = disks.some((disk) => disk.verifiedOk === false);
  return {
    verifiedAt: isComplete ? (times.toSorted()[0] ?? null) : null,
    verifiedOk: isBad ? false : isComplete ? true : null,
  };
}

export function jobView({ id, request: _request, ...job }: Job) {
  return { jobId: id, ...job };
}

export function vmView({ agentId, ...vm }: Vm, { agents }: Pick<Catalog, 'agents'>) {
  return {
    ...vm,
    agent: agentId === null ? null : (agents.byId(agentId)?.name ?? null),
    disks: vm.disks.map((disk) => ({
      diskId: disk.diskIndex,
      path: disk.key,
      format: disk.format,
      active: disk.active,
    })),
  };
}
