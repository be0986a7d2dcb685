import type { Clock } from '../../../base/clock.ts';
import { errnoOf, hasCode, SendenseError } from '../../../base/sendense-error.ts';
import type { Catalog } from '../../../catalog/catalog.ts';
import { chainMembers } from '../../../catalog/points/record-backup.ts';
import type { Vm } from '../../../catalog/vms.ts';
import { membersOnLayer } from '../../../repository/layers/chains.ts';
import { writeSidecar } from '../../../repository/layers/seal-layer.ts';
import { layerFiles, layout } from '../../../repository/layout.ts';
import type { Repository } from '../../../repository/open-repository.ts';
import { readSidecar } from '../../../repository/read-repository.ts';

interface MarkDeps {
  readonly catalog: Catalog;
  readonly clock: Clock;
}

/**
 * Marks a layer and all that stands on it, in the catalogue and beside the layer itself, and says it loudly.
 * @returns ids of the backups that are marked now
 */
export async function markDamage(
  deps: MarkDeps,
  vm: Vm,
  repository: Repository,
  diskIndex: number,
  layer: string,
  error: SendenseError,
): Promise<string[]> {
  const history = chainMembers(deps.catalog, vm.contextId, repository.id);
  const affected = membersOnLayer(history, diskIndex, layer);
  for (const backupId of affected) deps.catalog.backups.markDamage(backupId, diskIndex, error.message);
  deps.catalog.events.add({
    kind: 'chain.damaged',
    severity: 'error',
    subject: vm.name,
    message: `Disk ${diskIndex} of "${vm.name}": ${error.message}`,
    data: { disk_index: diskIndex, layer, backups: affected },
  });
  // a file that is merely missing may come back; one with wrong content stays wrong
  if (!hasCode(error, 'LAYER_CORRUPT', 'ROWS_DAMAGED')) return affected;
  const folder = layout.diskFolder(repository.root, vm.vmUuid, diskIndex);
  const sidecar = await readSidecar(folder, layer).catch((cause: unknown) => {
    if (cause instanceof SendenseError || errnoOf(cause) === 'ENOENT') return null; // the catalogue has the mark
    throw cause;
  });
  if (sidecar === null) return affected;
  const readable = hasCode(error, 'ROWS_DAMAGED');
  // the worse verdict stays
  if (readable && sidecar.verification?.ok === false && !sidecar.verification.readable) return affected;
  const verification = {
    checked_at: deps.clock.now().toISOString(),
    ok: false,
    detail: String(error.fields['detail'] ?? error.message),
    ...(readable ? { readable } : {}),
  };
  await writeSidecar(layerFiles(folder, layer), { ...sidecar, verification });
  return affected;
}
