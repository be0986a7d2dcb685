import type { Catalog } from '../../catalog/catalog.ts';
import type { Backup } from '../../catalog/points/backup-rows.ts';
import { backupOf, refreshChains } from '../../catalog/points/record-backup.ts';
import type { Vm } from '../../catalog/vms.ts';
import type { Manifest } from '../../repository/documents.ts';
import type { Repository } from '../../repository/open-repository.ts';
import type { MachineContent } from '../../repository/read-repository.ts';
import { adoptMachine } from '../repository/scan/adopt-machine.ts';
import { adoptVerdicts } from '../repository/scan/adopt-verdicts.ts';

/** Ids of backups whose rows changed. */
export interface Differences {
  readonly added: readonly string[];
  readonly updated: string[];
  /** Their manifests are gone. */
  readonly removed: string[];
  readonly clashes: readonly string[];
  /** Paths of documents that cannot be read; rows that may belong to them stay as they are. */
  readonly unreadable: string[];
}

/** Brings the catalogue's rows of one machine to what its files say. */
export async function rebuildMachine(
  catalog: Catalog,
  repository: Repository,
  machine: MachineContent,
  now: Date,
): Promise<Differences> {
  const unreadable = machine.unreadable.map(({ path }) => path);
  const { content } = machine;
  if (content === null) {
    const vm = catalog.vms.byUuid(machine.vmUuid);
    const removed = vm && unreadable.length === 0 ? removeRows(catalog, repository, vm, new Set(), now) : [];
    return { added: [], updated: [], removed, clashes: [], unreadable };
  }
  const { adopted, clashes } = await adoptMachine(
    { catalog, clock: { now: () => now } },
    repository,
    content,
  );
  const vm = catalog.vms.byUuid(machine.vmUuid);
  if (!vm) return { added: adopted, updated: [], removed: [], clashes, unreadable };
  const broken = unreadable.map((path) => /([^/]+)\.json$/.exec(path)?.[1] ?? '');
  const named = new Set([...content.manifests.map(({ backup_id }) => backup_id), ...broken]);
  const removed = removeRows(catalog, repository, vm, named, now);
  const updated = await updateRows(
    catalog,
    repository,
    vm,
    content.manifests,
    new Set([...adopted, ...clashes]),
    now,
  );
  return { added: adopted, updated, removed, clashes, unreadable };
}

/** Rows of completed backups that no manifest stands for. */
export function removeRows(
  catalog: Catalog,
  repository: Repository,
  vm: Vm,
  named: ReadonlySet<string>,
  now: Date,
): string[] {
  const rows = catalog.backups.completed(vm.contextId, repository.id);
  const gone = rows.map(({ id }) => id).filter((id) => !named.has(id));
  if (gone.length === 0) return [];
  catalog.transaction(() => {
    for (const id of gone) catalog.backups.remove(id);
    refreshChains(catalog, vm.contextId, repository.id, now);
  });
  return gone;
}

async function updateRows(
  catalog: Catalog,
  repository: Repository,
  vm: Vm,
  manifests: readonly Manifest[],
  settled: ReadonlySet<string>,
  now: Date,
): Promise<string[]> {
  const rows = catalog.backups.completed(vm.contextId, repository.id);
  const before = new Map(rows.map((row) => [row.id, textOf(row)]));
  catalog.transaction(() => {
    for (const manifest of manifests) {
      const known = settled.has(manifest.backup_id) ? null : catalog.backups.byId(manifest.backup_id);
      if (known) catalog.backups.save(fromManifest(manifest, known));
    }
    refreshChains(catalog, vm.contextId, repository.id, now);
  });
  const renewed = catalog.backups.completed(vm.contextId, repository.id);
  await adoptVerdicts(catalog, repository, vm, renewed, true);
  return catalog.backups
    .completed(vm.contextId, repository.id)
    .filter((row) => !settled.has(row.id) && before.get(row.id) !== textOf(row))
    .map(({ id }) => id);
}

const textOf = (row: Backup): string => JSON.stringify(row);

/** As the manifest says; only what no file holds is kept: fingerprints, and verdicts that could not be written. */
function fromManifest(manifest: Manifest, known: Backup): Backup {
  const row = backupOf(manifest, known.repositoryId);
  return {
    ...row,
    disks: row.disks.map((disk) => {
      const old = known.disks.find((one) => one.diskIndex === disk.diskIndex && one.layer === disk.layer);
      if (!old) return disk;
      const { fingerprint, verifiedAt, verifiedOk } = old;
      return { ...disk, fingerprint, verifiedAt, verifiedOk };
    }),
  };
}
