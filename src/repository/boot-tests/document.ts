import { z } from 'zod';
import { REPOSITORY_FORMAT } from '../documents.ts';

const count = z.number().int().min(0);

/** `boot-tests/<backup-id>/<YYYYMMDD-HHMMSS>/result.json`: how a restore point behaved when it was booted. */
export const bootTestDocument = z.object({
  format: z.literal(REPOSITORY_FORMAT),
  backup_id: z.string(),
  job_id: z.string(),
  /** When the machine was started. */
  tested_at: z.iso.datetime(),
  outcome: z.enum(['passed', 'failed']),
  reason: z.string(),
  /** What was met, and when; of several that were asked for all, else the first. */
  met: z.array(z.object({ condition: z.enum(['serial', 'agent', 'screen']), after_ms: count })),
  took_ms: count,
  /** Times that the guest restarted itself. */
  restarts: count,
  /** What was asked for; all null or false: whatever comes first. */
  expected: z.object({
    serial: z.string().nullable(),
    agent: z.boolean(),
    screen_stable_s: z.number().nullable(),
    timeout_s: z.number(),
  }),
  machine: z.object({
    accelerator: z.enum(['kvm', 'tcg']),
    memory_mib: count,
    cpus: count,
    firmware: z.enum(['bios', 'uefi']),
    disk_bus: z.enum(['virtio', 'sata', 'ide']),
    disks: count,
  }),
  screens: z.array(z.object({ file: z.string(), after_ms: count })),
  /** Of the serial console, beyond what `serial.log` holds. */
  serial_bytes_dropped: count,
  tool_versions: z.record(z.string(), z.string()),
});

export type BootTestDocument = z.infer<typeof bootTestDocument>;
