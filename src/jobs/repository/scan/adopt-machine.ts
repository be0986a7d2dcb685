import type { Clock } from '../../../base/clock.ts';
import type { Catalog } from '../../../catalog/catalog.ts';
import { adoptRepository, refreshChains } from '../../../catalog/points/record-backup.ts';
import type { Manifest } from '../../../repository/documents.ts';
import { readRetired } from '../../../repository/layers/retired-layers.ts';
import { layout } from '../../../repository/layout.ts';
import { namesIn } from '../../../repository/names-in.ts';
import type { Repository } from '../../../repository/open-repository.ts';
import type { VmContent } from '../../../repository/read-repository.ts';
import { adoptBootTests } from '../../boot-tests/adopt-boot-tests.ts';
import { adoptVerdicts } from './adopt-verdicts.ts';

interface AdoptDeps {
  readonly catalog: Catalog;
  readonly clock: Clock;
}

export interface Adoption {
  /** Backups that the catalogue did not know. */
  readonly adopted: readonly string[];
  /** Ids that something else has already: they are not listed. */
  readonly clashes: readonly string[];
}

/**
 * True when the names in a machine's folder are those that the catalogue has. Enough of a look when nobody else was
 * there since, and much less than to read every manifest.
 */
export async function isMachineKnown(
  { catalog }: AdoptDeps,
  repository: Repository,
  vmUuid: string,
): Promise<boolean> {
  const vm = catalog.vms.byUuid(vmUuid);
  if (!vm) return false;
  const names = await namesIn(layout.backupsFolder(repository.root, vmUuid));
  // pins and tombstones say more than their names
  if (names.some((name) => !name.endsWith('.json'))) return false;
  const known = catalog.backups.completedIds(vm.contextId, repository.id);
  return (
    known.size === names.length &&
    names.every((name) => known.has(name.slice(0, -'.json'.length))) &&
    catalog.pins.ofVm(vm.contextId, repository.id).length === 0 &&
    catalog.retired.ofVm(vm.contextId, repository.id).length === 0
  );
}

/** Deletions that were interrupted between the repository and the catalogue. To be done before tombstones go. */
export async function forgetEntombed(
  { catalog }: AdoptDeps,
  repository: Repository,
  vmUuid: string,
): Promise<void> {
  const names = new Set(await namesIn(layout.backupsFolder(repository.root, vmUuid)));
  for (const name of names) {
    if (!name.endsWith('.deleted')) continue;
    const id = name.slice(0, -'.deleted'.length);
    if (names.has(`${id}.json`)) continue; // it was copied here again
    if (catalog.backups.byId(id)?.repositoryId === repository.id) catalog.backups.remove(id);
  }
}

/**
 * Takes everything that a machine's folder says into the catalogue, which may know it already, or otherwise; with what
 * verifications found of it.
 */
export async function adoptMachine(
  deps: AdoptDeps,
  repository: Repository,
  content: VmContent,
): Promise<Adoption> {
  const { catalog, clock } = deps;
  const { vm, manifests } = content;
  const clashes = manifests.filter((manifest) => isTaken(catalog, repository, vm.vm_uuid, manifest));
  const ids = clashes.map(({ backup_id }) => backup_id);
  if (ids.length > 0)
    catalog.events.add({
      kind: 'repository.clash',
      severity: 'warning',
      subject: repository.name,
      message: `${ids.length} backups of "${vm.vm_name}" in ${repository.name} have ids that other backups here have; they are not listed.`,
      data: { vm_uuid: vm.vm_uuid, backups: ids.slice(0, 100) },
    });
  const free = manifests.filter((manifest) => !clashes.includes(manifest));
  const retired = await readRetired(repository.root, vm.vm_uuid);
  const adopted = catalog.transaction(() => {
    const found = adoptRepository(
      catalog,
      repository,
      { vms: [{ ...content, manifests: free }] },
      clock.now(),
    );
    const known = catalog.vms.byUuid(vm.vm_uuid);
    if (known) {
      const remaining = retired.filter(({ disks }) => disks.length > 0);
      catalog.retired.replace(known.contextId, repository.id, remaining);
      refreshChains(catalog, known.contextId, repository.id, clock.now());
    }
    return found;
  });
  const known = catalog.vms.byUuid(vm.vm_uuid);
  const fresh = new Set(adopted);
  const backups =
    adopted.length === 0 || !known ? [] : catalog.backups.completed(known.contextId, repository.id);
  if (known)
    await adoptVerdicts(
      catalog,
      repository,
      known,
      backups.filter(({ id }) => fresh.has(id)),
      false,
    );
  const place = { root: repository.root, vmUuid: vm.vm_uuid };
  await adoptBootTests(
    catalog,
    place,
    free.map(({ backup_id }) => backup_id),
  );
  return { adopted, clashes: ids };
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
