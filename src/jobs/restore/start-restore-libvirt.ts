import type { Job } from '../../catalog/jobs.ts';
import { endOf } from '../end-of-job.ts';
import { findCompleted } from '../find-backup.ts';
import { type LibvirtRestoreDeps, type LibvirtRestoreOrder, planRestore } from './plan-restore-libvirt.ts';
import { readableDisks } from './read-chain.ts';
import { restoreLocks } from './restore-deps.ts';
import { restoreToLibvirt } from './restore-to-libvirt.ts';

/**
 * Starts making a machine of a libvirt from a restore point.
 * @throws BACKUP_…, NO_CONFIGURATION, LIBVIRT_…, MACHINE_NOT_SUPPORTED, DOMAIN_EXISTS, OUTPUT_EXISTS, INSTANT_IMPOSSIBLE
 */
export async function startRestoreLibvirt(
  deps: LibvirtRestoreDeps,
  order: LibvirtRestoreOrder,
): Promise<Job> {
  const backup = findCompleted(deps.catalog, order.backup);
  const plan = await planRestore(deps, order, backup);
  const jobId = deps.engine.newId();
  const outputs = plan.disks.map(({ path }) => path);
  const release = await deps.locks.acquireSoon(jobId, restoreLocks(backup, plan.isRemote ? [] : outputs));
  try {
    const readable = await readableDisks(deps, backup, null);
    return deps.engine.submit(jobId, {
      kind: 'restore-vm',
      vmName: backup.vmName,
      backupId: backup.id,
      request: {
        libvirt: { name: plan.name, uuid: plan.uuid, folder: plan.folder },
        instant: order.instant,
        // half-written images of a daemon that died are removed by their names
        outputs: plan.isRemote ? [] : outputs,
      },
      run: async (context) => {
        for (const note of plan.notes) context.warn(note);
        await restoreToLibvirt(deps, { order, backup, plan, readable }, context);
        const { name: domain, uuid: domainUuid } = plan;
        context.setResult({ domain, domainUuid, files: outputs, started: order.start || order.instant });
      },
      ended: (job) => {
        release();
        deps.catalog.events.add({
          ...endOf(job, 'restore', {
            completed: `${backup.id} was restored to libvirt as ${plan.name}.`,
            cancelled: `Restoring ${backup.id} to libvirt was cancelled.`,
            failed: `Restoring ${backup.id} to libvirt failed: `,
          }),
          subject: backup.vmName,
          data: { backup_id: backup.id, domain: plan.name },
        });
      },
    });
  } catch (error) {
    release();
    throw error;
  }
}
