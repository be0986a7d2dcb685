import { z } from 'zod';
import { idPattern, vmNamePattern } from '../base/ids.ts';

const bytes = z.number().int().min(0);
const count = (max: number, initial: number) => z.coerce.number().int().min(1).max(max).default(initial);

export const vmName = z
  .string()
  .regex(vmNamePattern, 'letters, digits, ".", "_" and "-", at most 64')
  .meta({ description: 'Name of a machine' });
/** An id, the beginning of one, `latest` or `latest:<vm>`. */
export const backupRef = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._:-]{0,191}$/)
  .meta({ description: 'Backup id, a unique beginning of it, `latest` or `latest:<machine>`' });
export const id = z.string().regex(idPattern);
export const repositoryName = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/);
export const backupType = z.enum(['full', 'incremental', 'differential']);
export const jobStatus = z.enum(['pending', 'running', 'completed', 'failed', 'cancelled']);
export const limit = count(1000, 100);
export const diskIndex = z.coerce.number().int().min(0).max(9999);
export const path = z.string().min(1).max(4096);
/** `true` and `1` as query values. */
export const flag = z
  .enum(['true', 'false', '1', '0'])
  .default('false')
  .transform((value) => value === 'true' || value === '1');

export const problemReport = z.object({
  code: z.string(),
  message: z.string(),
  hint: z.string(),
  fields: z.record(z.string(), z.unknown()),
});
export const backupAnswer = z.object({
  backup_id: z.string(),
  job_id: z.string(),
  vm_name: z.string(),
  backup_type: backupType,
  status: jobStatus,
  repository: z.string(),
  consistency: z.string(),
  bytes_transferred: bytes,
  total_bytes: bytes,
  damaged: z.boolean(),
  error: problemReport.nullable(),
  created_at: z.string(),
  completed_at: z.string().nullable(),
  disks: z.array(
    z.object({
      disk_id: z.number(),
      key: z.string(),
      backup_type: backupType,
      reason: z.string().nullable(),
      layer: z.string(),
      parent_layer: z.string().nullable(),
      parent_backup_id: z.string().nullable(),
      size_bytes: bytes,
      written_bytes: bytes,
      file_bytes: bytes,
      damage: z.string().nullable(),
    }),
  ),
});
export const jobAnswer = z.object({
  job_id: z.string(),
  kind: z.string(),
  status: jobStatus,
  phase: z.string().nullable(),
  vm_name: z.string().nullable(),
  backup_id: z.string().nullable(),
  progress: z.object({
    total_bytes: bytes,
    processed_bytes: bytes,
    transferred_bytes: bytes,
    bytes_per_second: bytes,
    eta_seconds: z.number().nullable(),
  }),
  warnings: z.array(z.string()),
  error: problemReport.nullable(),
  created_at: z.string(),
  started_at: z.string().nullable(),
  finished_at: z.string().nullable(),
});
export const vmAnswer = z.object({
  name: z.string(),
  vm_uuid: z.string(),
  context_id: z.string(),
  registered: z.boolean(),
  before_command: z.string().nullable(),
  after_command: z.string().nullable(),
  allow_backing: z.array(z.string()),
  created_at: z.string(),
  disks: z.array(
    z.object({
      disk_id: z.number(),
      path: z.string(),
      format: z.enum(['raw', 'qcow2']),
      active: z.boolean(),
    }),
  ),
});
