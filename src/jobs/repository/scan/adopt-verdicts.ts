import { lstat } from 'node:fs/promises';
import pLimit from 'p-limit';
import { hasCode, SendenseError } from '../../../base/sendense-error.ts';
import type { Catalog } from '../../../catalog/catalog.ts';
import type { Backup, BackupDisk } from '../../../catalog/points/backup-rows.ts';
import { chainMembers } from '../../../catalog/points/record-backup.ts';
import type { Vm } from '../../../catalog/vms.ts';
import type { Sidecar, Verification } from '../../../repository/documents.ts';
import { membersOnLayer } from '../../../repository/layers/chains.ts';
import { layerFiles, layout } from '../../../repository/layout.ts';
import type { Repository } from '../../../repository/open-repository.ts';
import { readSidecar } from '../../../repository/read-repository.ts';

/** What lies beside one layer. */
interface LayerFacts {
  readonly backupId: string;
  readonly disk: BackupDisk;
  /** What the last verification found. */
  readonly verdict: Verification | null;
  /** The layer or its sidecar is missing, broken or of another length. */
  readonly problem: SendenseError | null;
}

/** Files that are looked at at once: enough for the latency of a network file system. */
const AT_ONCE = 16;

/** Looks at the sidecar and the length of each layer; reads no content. */
async function layerFacts(root: string, vm: Vm, backups: readonly Backup[]): Promise<LayerFacts[]> {
  const limit = pLimit(AT_ONCE);
  const disks = backups.flatMap(({ id, disks }) => disks.map((disk) => ({ backupId: id, disk })));
  return await limit.map(disks, async ({ backupId, disk }) => {
    const folder = layout.diskFolder(root, vm.vmUuid, disk.diskIndex);
    let sidecar: Sidecar | null = null;
    let problem: SendenseError | null = null;
    try {
      sidecar = await readSidecar(folder, disk.layer);
      const { size } = await lstat(layerFiles(folder, disk.layer).image);
      const detail = `the file has ${size} bytes instead of ${sidecar.file_bytes}`;
      if (size !== sidecar.file_bytes && sidecar.absorbing === undefined)
        problem = new SendenseError('LAYER_CORRUPT', { layer: disk.layer, detail });
    } catch (error) {
      const isOurs = hasCode(error, 'FORMAT_INVALID', 'FORMAT_TOO_NEW') && error instanceof SendenseError;
      problem = isOurs ? error : new SendenseError('CHAIN_PARENT_MISSING', { layer: disk.layer }, error);
    }
    return { backupId, disk, verdict: sidecar?.verification ?? null, problem };
  });
}

/**
 * What verifications found lies beside the layers and must not be forgotten with the catalogue.
 * @param backups whose layers are looked at
 * @param withProblems also mark layers whose files are missing or cut; else that is found when they are read
 */
export async function adoptVerdicts(
  catalog: Catalog,
  repository: Repository,
  vm: Vm,
  backups: readonly Backup[],
  withProblems: boolean,
): Promise<void> {
  const facts = await layerFacts(repository.root, vm, backups);
  catalog.transaction(() => {
    for (const { backupId, disk, verdict } of facts)
      if (verdict !== null)
        catalog.backups.markVerified(backupId, disk.diskIndex, verdict.checked_at, verdict.ok);
    const damaged = facts.flatMap((fact) => {
      const damage = (withProblems ? fact.problem : null) ?? damageOf(fact);
      return damage === null ? [] : [{ disk: fact.disk, damage }];
    });
    if (damaged.length > 0) markAll(catalog, repository, vm, damaged);
  });
}

function damageOf({ disk, verdict }: LayerFacts): SendenseError | null {
  if (verdict === null || verdict.ok) return null;
  const code = verdict.readable === true ? 'ROWS_DAMAGED' : 'LAYER_CORRUPT';
  return new SendenseError(code, { layer: disk.layer, detail: verdict.detail ?? '' });
}

/** What stands on a bad layer is no better, whatever was found of itself. */
function markAll(
  catalog: Catalog,
  repository: Repository,
  vm: Vm,
  damaged: readonly { disk: BackupDisk; damage: SendenseError }[],
): void {
  const history = catalog.backups.completed(vm.contextId, repository.id);
  const members = chainMembers(catalog, vm.contextId, repository.id);
  const verdicts = new Map(
    history.flatMap(({ id, disks }) =>
      disks.map((disk) => [`${id}/${disk.diskIndex}`, disk.verifiedAt] as const),
    ),
  );
  for (const { disk, damage } of damaged)
    for (const id of membersOnLayer(members, disk.diskIndex, disk.layer)) {
      catalog.backups.markDamage(id, disk.diskIndex, damage.message);
      const at = verdicts.get(`${id}/${disk.diskIndex}`) ?? null;
      if (at !== null) catalog.backups.markVerified(id, disk.diskIndex, at, false);
    }
}
