import { z } from 'zod';
import { idPattern, vmNamePattern } from '../base/ids.ts';

const bytes = z.number().int().min(0);
/** In a query everything is text; only plain decimal numbers are numbers. */
export const queryNumber = (min: number, max: number) =>
  z.preprocess(
    (value) => (typeof value === 'string' && /^(0|[1-9]\d*)$/.test(value) ? Number(value) : value),
    z
      .number({ error: `a whole number from ${min} to ${max}` })
      .int()
      .min(min)
      .max(max),
  );
const nameWords = 'made of at most 64 letters, digits, ".", "_" and "-", beginning with a letter or digit';

export const vmName = z.string().regex(vmNamePattern, nameWords).meta({ description: 'Name of a machine' });
/** An id, the beginning of one, `latest` or `latest:<vm>`; in a mirror with its name and a slash before. */
export const backupRef = z
  .string()
  .regex(
    /^([A-Za-z0-9][A-Za-z0-9._-]{0,63}\/)?[A-Za-z0-9][A-Za-z0-9._:-]{0,191}$/,
    'an id, the beginning of one, latest or latest:MACHINE; in a mirror MIRROR/ID',
  )
  .meta({
    description:
      'Backup id, a unique beginning of it, `latest` or `latest:<machine>`; of a mirror `<mirror>/<id>` where it is only read',
  });
export const id = z.string().regex(idPattern, 'an id');
export const repositoryName = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, nameWords);
export const backupType = z.enum(['full', 'incremental', 'differential']);
export const jobStatus = z.enum(['pending', 'running', 'completed', 'failed', 'cancelled']);
// the document does not see a default behind a preprocess by itself
export const limit = queryNumber(1, 1000)
  .default(100)
  .meta({ override: { default: 100 } });
export const diskIndex = queryNumber(0, 9999);
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
  verified_at: z.string().nullable(),
  verified_ok: z.boolean().nullable(),
  error: problemReport.nullable(),
  created_at: z.string(),
  completed_at: z.string().nullable(),
  copied_from: z.string().nullable(),
  pins: z.array(z.object({ pin_id: z.string(), reason: z.string(), until: z.string().nullable() })),
  boot_test: z
    .object({
      tested_at: z.string(),
      outcome: z.enum(['passed', 'failed']),
      reason: z.string(),
      met: z.array(z.string()),
      took_ms: z.number(),
    })
    .nullable(),
  disks: z.array(
    z.object({
      disk_id: z.number(),
      key: z.string(),
      backup_type: backupType,
      reason: z.string().nullable(),
      unexpected: z.boolean(),
      layer: z.string(),
      parent_layer: z.string().nullable(),
      parent_backup_id: z.string().nullable(),
      size_bytes: bytes,
      written_bytes: bytes,
      file_bytes: bytes,
      damage: z.string().nullable(),
      verified_at: z.string().nullable(),
      verified_ok: z.boolean().nullable(),
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
  result: z.record(z.string(), z.unknown()).nullable(),
  error: problemReport.nullable(),
  created_at: z.string(),
  started_at: z.string().nullable(),
  finished_at: z.string().nullable(),
});
const targets = z.array(z.string().min(1).max(64)).max(256);
/** How a machine of a libvirt is found, and what of it is backed up. */
export const libvirtReference = z.strictObject({
  uri: z.string().min(1).max(1024).optional(),
  domain: z.string().min(1).max(256).regex(/^[^-]/, 'a name or UUID').optional(),
  include_disks: targets.optional(),
  exclude_disks: targets.optional(),
  freeze: z.boolean().optional(),
});
const sourceAnswer = z.object({
  kind: z.enum(['image', 'libvirt']),
  uri: z.string().optional(),
  domain: z.string().optional(),
  include_disks: z.array(z.string()).optional(),
  exclude_disks: z.array(z.string()).optional(),
  freeze: z.boolean().optional(),
});
export const foundMachine = z.object({
  name: z.string(),
  registered_as: z.string().nullable(),
  is_running: z.boolean(),
  source: sourceAnswer,
  disks: z.array(z.object({ key: z.string(), format: z.enum(['raw', 'qcow2']), size_bytes: bytes })),
  left_out: z.array(z.object({ key: z.string(), reason: z.string() })),
});
export const vmAnswer = z.object({
  name: z.string(),
  vm_uuid: z.string(),
  context_id: z.string(),
  source: sourceAnswer,
  registered: z.boolean(),
  agent: z.string().nullable(),
  before_command: z.string().nullable(),
  after_command: z.string().nullable(),
  allow_backing: z.array(z.string()),
  labels: z.record(z.string(), z.string()),
  unprotected: z.string().nullable(),
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
