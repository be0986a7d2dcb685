import type { Catalog } from '../catalog/catalog.ts';
import { adoptRepository, refreshChains } from '../catalog/record-backup.ts';
import type { Manifest } from '../repository/documents.ts';
import type { Repository } from '../repository/open-repository.ts';
import type { VmContent } from '../repository/read-repository.ts';
import { readRetired } from '../repository/retired-layers.ts';
import { adoptVerdicts } from './adopt-verdicts.ts';

export interface Adopted {
  /** Ids of backups that are new to the catalogue. */
  readonly adopted: string[];
  /** Ids that something else has already: they are not listed. */
  readonly clashes: string[];
}

/** Takes over the backups of one machine of a repository, with what verifications found of them. */
export async function adoptMachine(
  catalog: Catalog,
  repository: Repository,
  content: VmContent,
  now: Date,
): Promise<Adopted> {
  const { vm, manifests } = content;
  const clashes = manifests.filter((manifest) => isTaken(catalog, repository, vm.vm_uuid, manifest));
  const free = manifests.filter((manifest) => !clashes.includes(manifest));
  const ids = clashes.map(({ backup_id }) => backup_id);
  if (ids.length > 0)
    catalog.events.add({
      kind: 'repository.clash',
      severity: 'warning',
      subject: repository.name,
      message: `${ids.length} backups of "${vm.vm_name}" in ${repository.name} have ids that other backups here have; they are not listed.`,
      data: { vm_uuid: vm.vm_uuid, backups: ids.slice(0, 100) },
    });
  const adopted = adoptRepository(catalog, repository, { vms: [{ ...content, manifests: free }] }, now);
  await adoptRetired(catalog, repository, vm.context_id, now);
  await adoptVerdicts(catalog, repository, adopted);
  return { adopted, clashes: ids };
}

/** Layers of deleted backups that are still there. */
export async function adoptRetired(
  catalog: Catalog,
  repository: Repository,
  contextId: string,
  now: Date,
): Promise<void> {
  const vm = catalog.vms.byContext(contextId);
  if (!vm) return;
  catalog.retired.replace(contextId, repository.id, await readRetired(repository.root, vm.vmUuid));
  refreshChains(catalog, contextId, repository.id, now);
}

/** Two appliances may have made the same id in the same second. */
function isTaken(catalog: Catalog, repository: Repository, vmUuid: string, manifest: Manifest): boolean {
  const sameContext = catalog.vms.byContext(manifest.context_id);
  const sameUuid = catalog.vms.byUuid(vmUuid);
  if (sameContext !== null && sameContext.vmUuid !== vmUuid) return true;
  if (sameUuid !== null && sameUuid.contextId !== manifest.context_id) return true;
  const known = catalog.backups.byId(manifest.backup_id);
  return (
    known?.status === 'completed' &&
    (known.repositoryId !== repository.id || known.contextId !== manifest.context_id)
  );
}
