import { z } from 'zod';
import type { MirrorPruneLine } from '../../../jobs/mirror/plan-mirror-prune.ts';

/** What is decided for one restore point in a mirror. */
export const mirrorLineAnswer = z.object({
  backup_id: z.string(),
  vm_name: z.string(),
  completed_at: z.string(),
  action: z.enum(['keep', 'delete']),
  reason: z.string(),
});

export const mirrorLineView = ({ backup, action, reason }: MirrorPruneLine) => ({
  backupId: backup.backupId,
  vmName: backup.vmName,
  completedAt: backup.completedAt,
  action,
  reason,
});
