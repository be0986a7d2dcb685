import { z } from 'zod';
import { configDefaults as d } from './config-defaults.ts';

const seconds = z.number().int().min(1);

const keepSome = z.union([z.number(), z.string()]).optional();

const isPort = (text: string | undefined) => Number(text) >= 0 && Number(text) <= 65_535;
/** `0.0.0.0:7443`, `[::]:7443`; empty: off. Port 0: any free one. */
const hostAndPort = z.string().refine((text) => {
  const match = /^(?:\d+\.\d+\.\d+\.\d+|\[[0-9A-Fa-f:.]+\]):(\d{1,5})$/.exec(text);
  return text === '' || (match !== null && isPort(match[1]));
}, 'write it as 0.0.0.0:7443 or [::]:7443, or leave it empty');
const absoluteOrEmpty = z.string().regex(/^(\/.*)?$/, 'an absolute path, or empty');
const portRange = z.string().refine((text) => {
  const [, first, last] = /^(\d{1,5})-(\d{1,5})$/.exec(text) ?? [];
  return first !== undefined && Number(first) > 0 && Number(first) <= Number(last) && isPort(last);
}, 'write it as 7500-7563');

/** Every setting there is. Unknown keys are errors: a misspelt setting must not be silently ignored. */
export const configSchema = z.strictObject({
  log: z
    .strictObject({ level: z.enum(['trace', 'debug', 'info', 'warn', 'error']).default(d.log.level) })
    .prefault({}),
  exports: z
    .strictObject({ backend: z.enum(['nbd-server', 'storage-daemon']).default(d.exports.backend) })
    .prefault({}),
  jobs: z
    .strictObject({
      max_concurrent: z.number().int().min(1).max(64).default(d.jobs.max_concurrent),
      hook_timeout_s: seconds.default(d.jobs.hook_timeout_s),
    })
    .prefault({}),
  chain: z
    .strictObject({
      max_depth: z.number().int().min(1).max(200).default(d.chain.max_depth),
      consolidate: z.boolean().default(d.chain.consolidate),
      consolidate_mib_per_s: z.number().int().min(0).max(100_000).default(d.chain.consolidate_mib_per_s),
    })
    .prefault({}),
  /** The rules of `prune plan` when it is given none; their meaning is in `policy/retention`. */
  retention: z
    .strictObject({
      keep_last: z.number().optional(),
      max_snapshots: z.number().optional(),
      keep_within: z.string().optional(),
      hourly: keepSome,
      daily: keepSome,
      weekly: keepSome,
      monthly: keepSome,
      yearly: keepSome,
      time_zone: z.string().default(d.retention.time_zone),
    })
    .prefault({}),
  repository: z
    .strictObject({
      reserve_bytes: z.number().int().min(0).default(d.repository.reserve_bytes),
      poll_s: z.number().int().min(1).max(3600).default(d.repository.poll_s),
    })
    .prefault({}),
  verify: z
    .strictObject({
      scrub_percent_per_day: z.number().min(0).max(100).default(d.verify.scrub_percent_per_day),
      scrub_mib_per_s: z.number().min(1).max(65_536).default(d.verify.scrub_mib_per_s),
      scrub_interval_s: seconds.max(86_400).default(d.verify.scrub_interval_s),
    })
    .prefault({}),
  mounts: z
    .strictObject({
      mode: z.enum(['auto', 'loop', 'userspace', 'kernel-nbd', 'vm']).default(d.mounts.mode),
      idle_timeout_s: seconds.default(d.mounts.idle_timeout_s),
      max: z.number().int().min(1).max(256).default(d.mounts.max),
      overlay_limit_bytes: z.number().int().min(1).default(d.mounts.overlay_limit_bytes),
      max_downloads: z.number().int().min(1).max(256).default(d.mounts.max_downloads),
      max_downloads_per_mount: z.number().int().min(1).max(256).default(d.mounts.max_downloads_per_mount),
      download_mib_per_s: z.number().int().min(0).max(100_000).default(d.mounts.download_mib_per_s),
    })
    .prefault({}),
  restore: z
    .strictObject({ segment_mib: z.number().int().min(1).max(1_048_576).default(d.restore.segment_mib) })
    .prefault({}),
  live: z
    .strictObject({
      expires_s: seconds.max(30 * 86_400).default(d.live.expires_s),
      max: z.number().int().min(1).max(256).default(d.live.max),
      overlay_limit_bytes: z.number().int().min(1).default(d.live.overlay_limit_bytes),
      tcp_address: z.union([z.ipv4(), z.ipv6()]).default(d.live.tcp_address),
    })
    .prefault({}),
  libvirt: z
    .strictObject({
      scratch_folder: z
        .string()
        .regex(/^\/[A-Za-z0-9._/-]{0,60}$/, 'an absolute path of at most 61 plain characters')
        .default(d.libvirt.scratch_folder),
      scratch_mib: z.number().int().min(1).max(1_048_576).default(d.libvirt.scratch_mib),
    })
    .prefault({}),
  policies: z
    .strictObject({
      max_per_repository: z.number().int().min(1).max(64).default(d.policies.max_per_repository),
      max_per_source: z.number().int().min(1).max(64).default(d.policies.max_per_source),
      keep_runs_days: z.number().int().min(1).max(3650).default(d.policies.keep_runs_days),
    })
    .prefault({}),
  boot_test: z
    .strictObject({
      max: z.number().int().min(1).max(64).default(d.boot_test.max),
      keep: z.number().int().min(1).max(1000).default(d.boot_test.keep),
      overlay_limit_bytes: z.number().int().min(1).default(d.boot_test.overlay_limit_bytes),
    })
    .prefault({}),
  api: z
    .strictObject({
      listen: hostAndPort.default(d.api.listen),
      tls_certificate: absoluteOrEmpty.default(d.api.tls_certificate),
      tls_key: absoluteOrEmpty.default(d.api.tls_key),
      socket_group: z
        .string()
        .regex(/^([a-z_][a-z0-9_-]{0,31})?$/, 'the name of a group')
        .default(d.api.socket_group),
      /** Where callers below admin may have the appliance write; a list, or in one text with commas. */
      restore_folders: z
        .preprocess(
          (value) => (typeof value === 'string' ? value.split(',').filter((part) => part !== '') : value),
          z.array(z.string().startsWith('/', 'an absolute path')),
        )
        .default([]),
    })
    .refine(
      ({ tls_certificate, tls_key }) => (tls_certificate === '') === (tls_key === ''),
      'tls_certificate and tls_key belong together',
    )
    .prefault({}),
  agents: z
    .strictObject({
      listen: hostAndPort.default(d.agents.listen),
      ssh_listen: hostAndPort.default(d.agents.ssh_listen),
      ssh_user: z
        .string()
        .regex(/^[a-z_][a-z0-9_-]{0,31}$/)
        .default(d.agents.ssh_user),
      data_ports: z.union([z.literal('any'), portRange]).default(d.agents.data_ports),
      certificate_s: seconds
        .min(10)
        .max(3650 * 86_400)
        .default(d.agents.certificate_s),
      patience_s: seconds.max(86_400).default(d.agents.patience_s),
    })
    .prefault({}),
});

export type Config = z.infer<typeof configSchema>;
