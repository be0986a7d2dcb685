import { compareText } from '../../base/compare-text.ts';
import type { Manifest, VmDocument } from '../../repository/documents.ts';
import { type ChainMember, chainsOf } from '../../repository/layers/chains.ts';
import type { Repository } from '../../repository/open-repository.ts';
import type { PinEntry } from '../../repository/pins-file.ts';
import type { RepositoryContent } from '../../repository/read-repository.ts';
import type { Catalog } from '../catalog.ts';
import type { Vm } from '../vms.ts';
import type { Backup } from './backup-rows.ts';

/** A published backup as the catalogue keeps it. */
export function backupOf(manifest: Manifest, repositoryId: string): Backup {
  return {
    id: manifest.backup_id,
    jobId: manifest.job_id,
    contextId: manifest.context_id,
    vmName: manifest.vm_name,
    type: manifest.requested_type,
    status: 'completed',
    repositoryId,
    consistency: manifest.consistency,
    bytesTransferred: manifest.disks.reduce((sum, disk) => sum + disk.written_bytes, 0),
    totalBytes: manifest.disks.reduce((sum, disk) => sum + disk.virtual_size_bytes, 0),
    error: null,
    createdAt: manifest.created_at,
    startedAt: manifest.created_at,
    completedAt: manifest.completed_at,
    copiedFrom: manifest.copied_from?.backup_id ?? null,
    disks: manifest.disks.map((disk) => ({
      diskIndex: disk.disk_index,
      diskKey: disk.disk_key,
      type: disk.type,
      reason: disk.reason,
      layer: disk.layer,
      parentLayer: disk.parent_layer,
      parentBackupId: disk.parent_backup_id,
      sizeBytes: disk.virtual_size_bytes,
      writtenBytes: disk.written_bytes,
      fileBytes: disk.file_bytes,
      damage: null,
      fingerprint: null,
      verifiedAt: null,
      verifiedOk: null,
    })),
  };
}

/** Everything that has layers in a repository, in order of completion: restore points and retired backups. */
export function chainMembers(
  catalog: Catalog,
  contextId: string,
  repositoryId: string,
  /** The restore points, when the caller has them already. */
  backups: readonly (ChainMember & Pick<Backup, 'completedAt'>)[] = catalog.backups.completed(
    contextId,
    repositoryId,
  ),
): ChainMember[] {
  const timed = [...backups, ...catalog.retired.ofVm(contextId, repositoryId)];
  return timed.toSorted((a, b) => compareText(a.completedAt ?? '', b.completedAt ?? ''));
}

/** Derives the chains of a machine anew from its completed backups. */
export function refreshChains(catalog: Catalog, contextId: string, repositoryId: string, now: Date): void {
  catalog.chains.replace(
    contextId,
    repositoryId,
    chainsOf(chainMembers(catalog, contextId, repositoryId)),
    now,
  );
}

/** Takes one published backup into the catalogue. Repeating it changes nothing. */
export function recordBackup(
  catalog: Catalog,
  repository: Repository,
  manifest: Manifest,
  fingerprints: ReadonlyMap<number, string>,
  now: Date,
): void {
  const backup = backupOf(manifest, repository.id);
  catalog.transaction(() => {
    catalog.backups.save({
      ...backup,
      disks: backup.disks.map((disk) => ({ ...disk, fingerprint: fingerprints.get(disk.diskIndex) ?? null })),
    });
    refreshChains(catalog, manifest.context_id, repository.id, now);
  });
}

/** Takes over what a manifest says of its layers after one of them was rewritten. What was found in it is forgotten. */
export function updateLayers(catalog: Catalog, manifest: Manifest): void {
  const backup = catalog.backups.byId(manifest.backup_id);
  if (!backup) return;
  const disks = backupOf(manifest, backup.repositoryId).disks.map((disk) => {
    const old = backup.disks.find(({ diskIndex }) => diskIndex === disk.diskIndex);
    const isSame = old?.parentLayer === disk.parentLayer && old.fileBytes === disk.fileBytes;
    if (!old || isSame) return old ?? disk;
    return { ...disk, damage: old.damage };
  });
  if (disks.some((disk, index) => disk !== backup.disks[index])) catalog.backups.save({ ...backup, disks });
}

export function recordPins(catalog: Catalog, backupId: string, pins: readonly PinEntry[]): void {
  catalog.pins.replace(
    backupId,
    pins.map((pin) => ({
      backupId,
      pinId: pin.pin_id,
      reason: pin.reason,
      until: pin.until,
      createdAt: pin.created_at,
    })),
  );
}

/**
 * Takes over what a repository knows and the catalogue does not: after the catalogue was lost, or when the
 * repository comes from elsewhere. A machine found this way is not registered: its commands and allowed folders
 * were never written to the repository, since whoever can write there must not run programs here.
 * @returns ids of the backups that were new to the catalogue
 */
export function adoptRepository(
  catalog: Catalog,
  repository: Repository,
  content: RepositoryContent,
  now: Date,
): string[] {
  const adopted: string[] = [];
  for (const { vm, manifests, pins } of content.vms) {
    if (manifests.length === 0) continue;
    const known = catalog.vms.byContext(vm.context_id);
    if (known === null) adoptVm(catalog, vm, manifests, now);
    else if (!known.registered) adoptNewerLabels(catalog, vm, known);
    const unknown = manifests.filter(
      ({ backup_id }) => catalog.backups.byId(backup_id)?.status !== 'completed',
    );
    catalog.transaction(() => {
      for (const manifest of manifests) {
        if (unknown.includes(manifest)) catalog.backups.save(backupOf(manifest, repository.id));
        else updateLayers(catalog, manifest);
        recordPins(catalog, manifest.backup_id, pins.get(manifest.backup_id) ?? []);
      }
      refreshChains(catalog, vm.context_id, repository.id, now);
    });
    for (const { backup_id } of unknown) adopted.push(backup_id);
  }
  return adopted;
}

function adoptVm(catalog: Catalog, vm: VmDocument, manifests: readonly Manifest[], now: Date): void {
  const isNameTaken = catalog.vms.byName(vm.vm_name) !== null;
  catalog.vms.save(
    {
      contextId: vm.context_id,
      vmUuid: vm.vm_uuid,
      name: isNameTaken ? `${vm.vm_name}-${vm.vm_uuid.slice(0, 8)}` : vm.vm_name,
      // a place to connect to is not taken from a repository, no more than a command
      source: { kind: 'image' },
      registered: false,
      beforeCommand: null,
      afterCommand: null,
      allowBacking: [],
      agentId: null,
      ...labelsOf(vm),
      createdAt: manifests[0]?.created_at ?? now.toISOString(),
      disks: vm.disks.map((disk) => ({
        diskIndex: disk.disk_index,
        key: disk.key,
        format: disk.format,
        active: true,
      })),
    },
    writtenAt(vm),
  );
}

/** They choose by which policies a machine is meant once somebody registers it; until then they do nothing. */
const labelsOf = ({ labels = {}, unprotected = null }: VmDocument): Pick<Vm, 'labels' | 'unprotected'> => ({
  labels,
  unprotected,
});

/** A document of before there was a time in it has no labels either. */
const writtenAt = ({ written_at }: VmDocument): Date => new Date(written_at ?? 0);

/** Another repository was away when they were changed. */
function adoptNewerLabels(catalog: Catalog, document: VmDocument, known: Vm): void {
  const at = writtenAt(document);
  if (at.getTime() > Date.parse(catalog.vms.updatedAt(known.contextId) ?? ''))
    catalog.vms.save({ ...known, ...labelsOf(document) }, at);
}
