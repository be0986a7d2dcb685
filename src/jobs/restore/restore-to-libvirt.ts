import { messageOf } from '../../base/sendense-error.ts';
import type { Backup } from '../../catalog/points/backup-rows.ts';
import { createOverNbd } from '../../qemu/qemu-img.ts';
import {
  defineDomain,
  giveToFolder,
  openRemoteImage,
  writeNvram,
} from '../../restore/libvirt/libvirt-target.ts';
import { pullDisk } from '../../restore/libvirt/pull-disk.ts';
import { freePort } from '../../restore/live/free-port.ts';
import { restoreDisk } from '../../restore/whole-disk/restore-disk.ts';
import { TransferProgress } from '../backup/carry/transfer-progress.ts';
import type { JobContext } from '../job-work.ts';
import type { LibvirtPlan, LibvirtRestoreDeps, LibvirtRestoreOrder } from './plan-restore-libvirt.ts';
import type { ReadableDisk } from './read-chain.ts';
import { forbiddenPlaces, restorePointOf, sizeOfDisk } from './restore-deps.ts';

interface Work {
  readonly order: LibvirtRestoreOrder;
  readonly backup: Backup;
  readonly plan: LibvirtPlan;
  readonly readable: readonly ReadableDisk[];
}

/** Only this machine itself may read what an instant restore serves. */
const LOOPBACK = '127.0.0.1';
/** A pull has no other end than its own. */
const A_MONTH_MS = 30 * 86_400_000;

/** Makes disks, UEFI variables and domain. When it throws, nothing of them is left. */
export async function restoreToLibvirt(
  deps: LibvirtRestoreDeps,
  work: Work,
  context: JobContext,
): Promise<void> {
  const { order, plan, backup } = work;
  const { connection } = plan;
  const undo: (() => Promise<unknown>)[] = [];
  const sizes = plan.disks.map(({ diskIndex }) => sizeOfDisk(backup, diskIndex));
  const progress = new TransferProgress(
    sizes.reduce((sum, size) => sum + size, 0),
    Date.now(),
  );
  const report = (processedBytes: number, writtenBytes = processedBytes) => {
    progress.update({ processedBytes, readBytes: 0, writtenBytes, reconnects: 0 });
    context.setProgress(progress.report(Date.now()));
  };
  try {
    if (plan.nvram !== null) {
      const { path, saved } = plan.nvram;
      undo.push(() => connection.host.removeFiles([path]));
      await writeNvram(connection, saved, path);
      await giveToFolder(connection, plan.folder, path);
    }
    const live = order.instant ? await serveBackup(deps, work) : null;
    if (live) undo.push(() => deps.lives.close(live.liveId, { disconnect: true }));
    context.setPhase('restoring');
    for (const disk of plan.disks) {
      undo.push(() => connection.host.removeFiles([disk.path]));
      if (live)
        await createOverNbd(disk.path, live.uriOf(disk.diskIndex), sizeOfDisk(backup, disk.diskIndex));
      else {
        await writeDisk(deps, work, context, disk, report);
        progress.diskDone();
      }
      await giveToFolder(connection, plan.folder, disk.path);
    }
    context.signal.throwIfAborted();
    undo.push(await defineDomain(connection, plan.xml, plan.uuid));
    if (order.start || order.instant) await connection.virsh(['start', plan.uuid]);
    if (live) {
      context.setPhase('copying-behind');
      for (const { target } of plan.disks) {
        await pullDisk(connection, plan.uuid, target, report, context.signal);
        progress.diskDone();
      }
      // from here on the machine needs nothing of the backup
      undo.length = 0;
      await deps.lives.close(live.liveId, { disconnect: true });
    }
  } catch (error) {
    // in the reverse order: the domain before its disks, and those before what they stand on
    for (const step of undo.toReversed())
      await step().catch((failure: unknown) =>
        context.warn(`Something of the failed restore could not be removed: ${messageOf(failure)}`),
      );
    throw error;
  }
}

async function writeDisk(
  deps: LibvirtRestoreDeps,
  { plan, backup, readable }: Work,
  context: JobContext,
  disk: LibvirtPlan['disks'][number],
  report: (processedBytes: number, writtenBytes: number) => void,
): Promise<void> {
  const found = readable.find(({ diskIndex }) => diskIndex === disk.diskIndex);
  if (!found) return;
  const write = (output: string, format: 'qcow2' | 'raw') =>
    restoreDisk(deps.restoreTools, {
      point: restorePointOf(backup, found),
      output,
      format,
      overwrite: format === 'raw',
      differential: false,
      resume: 'never',
      keepPartial: false,
      // behind ssh it is a socket of ours
      forbidden: plan.isRemote ? [] : forbiddenPlaces(deps),
      onProgress: ({ processedBytes, writtenBytes }) => report(processedBytes, writtenBytes),
      signal: context.signal,
    });
  if (!plan.isRemote) {
    await write(disk.path, 'qcow2');
    return;
  }
  await using image = await openRemoteImage(plan.connection, disk.path, sizeOfDisk(backup, disk.diskIndex));
  await write(image.uri, 'raw');
}

/** The restore point as it is, read-only: what the machine writes goes to its own new images at once. */
async function serveBackup(deps: LibvirtRestoreDeps, { backup, readable }: Work) {
  const port = await freePort(LOOPBACK);
  const { live } = await deps.lives.open({
    backupId: backup.id,
    disks: readable,
    writable: false,
    tcp: { host: LOOPBACK, port, tls: false },
    expiresMs: A_MONTH_MS,
    forceExpiry: false,
  });
  return {
    liveId: live.liveId,
    uriOf: (diskIndex: number) => `nbd://${LOOPBACK}:${port}/disk${diskIndex}`,
  };
}
