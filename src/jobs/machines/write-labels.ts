import { stat } from 'node:fs/promises';
import type { Clock } from '../../base/clock.ts';
import { errnoOf, messageOf } from '../../base/sendense-error.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import type { Vm } from '../../catalog/vms.ts';
import { layout } from '../../repository/layout.ts';
import { confirmWritable } from '../../repository/open-repository.ts';
import { writeVmFile } from '../../repository/publish-backup.ts';
import type { Repositories } from '../repository/repositories.ts';
import { vmDocumentOf } from './vm-document.ts';

interface WriteDeps {
  readonly catalog: Catalog;
  readonly clock: Clock;
  readonly repositories: Repositories;
}

/**
 * Writes the labels of a machine, and why it is left without backups, to each repository that has restore points of it:
 * they outlive the catalogue there. One that is away keeps what it knew until the next backup to it, and that is told.
 */
export async function writeLabels(deps: WriteDeps, vm: Vm): Promise<void> {
  const { catalog, clock, repositories } = deps;
  const document = vmDocumentOf(vm, clock.now());
  for (const { id, name } of catalog.repositories.all()) {
    if (catalog.backups.completedIds(vm.contextId, id).size === 0) continue;
    try {
      const repository = repositories.byId(id);
      await confirmWritable(repository);
      if (await isThere(layout.vmFile(repository.root, vm.vmUuid)))
        await writeVmFile(repository.root, document);
    } catch (error) {
      catalog.events.add({
        kind: 'machine.labels_not_kept',
        severity: 'warning',
        subject: vm.name,
        message: `The labels of ${vm.name} hold, but could not be written to the repository ${name}; the next backup to it does that: ${messageOf(error)}`,
        data: { repository: name },
      });
    }
  }
}

async function isThere(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false;
    throw error;
  }
}
