import { randomBytes } from 'node:crypto';
import type { Clock } from '../../base/clock.ts';
import { SendenseError } from '../../base/sendense-error.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import type { Backup } from '../../catalog/points/backup-rows.ts';
import type { BackupPin } from '../../catalog/points/pins.ts';
import { recordPins } from '../../catalog/points/record-backup.ts';
import { confirmWritable } from '../../repository/open-repository.ts';
import { type PinEntry, readPins, writePins } from '../../repository/pins-file.ts';
import { findCompleted } from '../find-backup.ts';
import type { Repositories } from '../repository/repositories.ts';
import type { ResourceLocks } from '../resource-locks.ts';

export interface PinDeps {
  readonly catalog: Catalog;
  readonly clock: Clock;
  readonly repositories: Repositories;
  readonly locks: ResourceLocks;
}

/** Pins that have not ended. Pure. */
export const livePins = (pins: readonly BackupPin[], now: Date): BackupPin[] =>
  pins.filter((pin) => pin.until === null || Date.parse(pin.until) > now.getTime());

/**
 * Keeps a restore point from retention and deletion, beside its manifest, so that it outlives the catalogue.
 * @param until null: for ever
 * @throws BACKUP_UNKNOWN, BACKUP_NOT_COMPLETE, REQUEST_INVALID for an end that has passed, REPOSITORY_UNAVAILABLE
 */
export async function pinBackup(
  deps: PinDeps,
  wanted: string,
  reason: string,
  until: Date | null,
): Promise<BackupPin> {
  const backup = findCompleted(deps.catalog, wanted);
  const now = deps.clock.now();
  if (until !== null && until <= now)
    throw new SendenseError('REQUEST_INVALID', { detail: `until ${until.toISOString()} has passed already` });
  const pin: PinEntry = {
    pin_id: `pin-${randomBytes(4).toString('hex')}`,
    reason,
    until: until?.toISOString() ?? null,
    created_at: now.toISOString(),
  };
  await change(deps, backup, (pins) => [...pins, pin]);
  deps.catalog.events.add({
    kind: 'backup.pinned',
    severity: 'info',
    subject: backup.vmName,
    message: `Backup ${backup.id} is pinned ${pin.until === null ? 'for ever' : `until ${pin.until}`}: ${reason}`,
    data: { backup_id: backup.id, pin_id: pin.pin_id },
  });
  return { backupId: backup.id, pinId: pin.pin_id, reason, until: pin.until, createdAt: pin.created_at };
}

/** Takes one pin away, or all. @returns how many @throws BACKUP_UNKNOWN, PIN_UNKNOWN */
export async function unpinBackup(deps: PinDeps, wanted: string, pinId: string | null): Promise<number> {
  const backup = findCompleted(deps.catalog, wanted);
  const goes = (pin: PinEntry) => pinId === null || pin.pin_id === pinId;
  let count = 0;
  await change(deps, backup, (pins) => {
    count = pins.filter(goes).length;
    if (pinId !== null && count === 0)
      throw new SendenseError('PIN_UNKNOWN', { backup: backup.id, pin: pinId });
    return pins.filter((pin) => !goes(pin));
  });
  deps.catalog.events.add({
    kind: 'backup.unpinned',
    severity: 'info',
    subject: backup.vmName,
    message: `Backup ${backup.id} lost ${count === 1 ? 'one pin' : `${count} pins`}.`,
    data: { backup_id: backup.id },
  });
  return count;
}

async function change(
  deps: PinDeps,
  backup: Backup,
  next: (pins: readonly PinEntry[]) => readonly PinEntry[],
): Promise<void> {
  const repository = deps.repositories.byId(backup.repositoryId);
  await confirmWritable(repository);
  const vm = deps.catalog.vms.byContext(backup.contextId);
  if (!vm) throw new SendenseError('VM_UNKNOWN', { vm: backup.vmName });
  const release = deps.locks.acquire('a change of its pins', [
    {
      resource: `backup:${backup.id}`,
      exclusive: false,
      busy: (holder) => new SendenseError('BACKUP_BUSY', { backup: backup.id, holder }),
    },
  ]);
  try {
    const pins = next(await readPins(repository.root, vm.vmUuid, backup.id));
    await writePins(repository.root, vm.vmUuid, backup.id, pins);
    recordPins(deps.catalog, backup.id, pins);
  } finally {
    release();
  }
}
