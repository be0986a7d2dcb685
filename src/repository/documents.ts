import { z } from 'zod';
import { labelKeyPattern, labelValuePattern } from '../base/label-patterns.ts';

/** Version of every JSON file of a repository. A newer one is refused, never guessed. */
export const REPOSITORY_FORMAT = 1;

const format = z.literal(REPOSITORY_FORMAT);
const time = z.iso.datetime();
const bytes = z.number().int().min(0);
/** A sibling file name: `full|incr|diff-YYYYMMDD-HHMMSS[-N].qcow2`, no path in it. */
export const layerNamePattern = /^(full|incr|diff)-\d{8}-\d{6}(-\d+)?\.qcow2$/;
const layerName = z.string().regex(layerNamePattern);
const uuid = z.uuid();
const id = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/);
const layerType = z.enum(['full', 'incremental', 'differential']);

/** `repository.json`: proof that a folder is a repository, and which one. */
export const repositoryDocument = z.object({
  format,
  repository_id: uuid,
  created_at: time,
  /** Whether layers are compressed some time after they were sealed. */
  compression: z.enum(['none', 'zstd']).optional(),
  /** It lies on a mount of its own: a copy of this file on the root file system is not the repository. */
  own_mount: z.boolean().optional(),
});

/** `.lock.json`: the daemon that uses the repository, or did so last. Proves nothing; the lock is on `.lock.db`. */
export const holderDocument = z.object({
  format,
  host: z.string(),
  pid: z.number().int(),
  home: z.string(),
  since: time,
  /** Another one each time: who finds his own knows that nobody was here meanwhile. */
  token: uuid,
});

/** `<vm-uuid>/vm.json`: the machine as it was seen last. No commands: who writes here must not run programs. */
export const vmDocument = z.object({
  format,
  vm_uuid: uuid,
  vm_name: id,
  context_id: id,
  source_kind: z.enum(['image', 'libvirt']),
  disks: z.array(
    z.object({
      disk_index: z.number().int().min(0),
      key: z.string().min(1),
      format: z.enum(['raw', 'qcow2']),
    }),
  ),
  // what somebody wrote by hand and wrongly must not hide the restore points
  /** What policies choose it by. */
  labels: z
    .record(z.string().regex(labelKeyPattern), z.string().regex(labelValuePattern))
    .optional()
    .catch(undefined),
  /** Why nobody is to miss its backups; null: it is to be protected. */
  unprotected: z.string().min(1).max(500).nullable().optional().catch(undefined),
  /** Of several repositories that have the machine, the newest document knows its labels. */
  written_at: time.optional().catch(undefined),
});

/** What a check of this layer found last; null in the sidecar means never checked since sealing. */
const verification = z.object({
  checked_at: time,
  ok: z.boolean(),
  detail: z.string().nullable(),
  /** Rows compared and guest bytes read for it. */
  rows: bytes.optional(),
  bytes: bytes.optional(),
  /** True when only the digests are damaged: the content can still be read, but not be proven. */
  readable: z.boolean().optional(),
});

/** `<layer>.json`: everything about one layer that is not in the qcow2 itself. */
export const sidecarDocument = z.object({
  format,
  layer: layerName,
  parent_layer: layerName.nullable(),
  type: layerType,
  backup_id: id,
  disk_index: z.number().int().min(0),
  disk_key: z.string().min(1),
  virtual_size_bytes: bytes,
  /** What the source calls this instant; the input of the next incremental. Null without change tracking. */
  change_id: z.string().nullable(),
  export_name: z.string(),
  /** Guest bytes written into the layer. */
  written_bytes: bytes,
  /** Length of the qcow2 file when it was sealed. */
  file_bytes: bytes,
  /** BLAKE3 of the row file. */
  rows_b3: z.string().regex(/^[0-9a-f]{64}$/),
  tool_versions: z.record(z.string(), z.string()),
  sealed_at: time,
  verification: verification.nullable(),
  /** The newer layer whose data is being moved into this one: until that ends its size and rows say little. */
  absorbing: layerName.optional(),
  /** Length of the file when its clusters were compressed last; what was merged into it since is not. */
  compressed_file_bytes: bytes.optional(),
});

/** What a restore of the whole machine needs beside its disks. */
const machineConfiguration = z.object({
  kind: z.literal('libvirt'),
  domain_xml: z.string().min(1),
  checkpoint_xml: z.string().min(1).nullable(),
  nvram_zst: z.base64().nullable(),
});

/** `backups/<backup-id>.json`: written last. No manifest, no backup. */
export const manifestDocument = z.object({
  format,
  backup_id: id,
  job_id: id,
  vm_uuid: uuid,
  vm_name: id,
  context_id: id,
  requested_type: layerType,
  consistency: z.enum(['application', 'filesystem', 'crash']),
  /** Of the instant that it shows; a copy has those of its original. */
  created_at: time,
  completed_at: time,
  /** The restore point of which this one is a copy, where that lay, and when it was copied. */
  copied_from: z.object({ backup_id: id, repository_id: uuid, copied_at: time }).optional(),
  /** Absent when the source knows of none. */
  configuration: machineConfiguration.optional(),
  disks: z
    .array(
      z.object({
        disk_index: z.number().int().min(0),
        disk_key: z.string().min(1),
        type: layerType,
        /** Why this disk got another type than was asked for. */
        reason: z.string().nullable(),
        layer: layerName,
        parent_layer: layerName.nullable(),
        parent_backup_id: id.nullable(),
        virtual_size_bytes: bytes,
        written_bytes: bytes,
        file_bytes: bytes,
      }),
    )
    .min(1),
});

/** `backups/<backup-id>.pins`: wishes that this restore point stays. */
export const pinsDocument = z.object({
  format,
  backup_id: id,
  pins: z.array(
    z.object({
      pin_id: id,
      reason: z.string().min(1).max(500),
      /** Null: for ever. */
      until: time.nullable(),
      created_at: time,
    }),
  ),
});

/**
 * `disk-<n>/merge.json`: a layer of this disk is being rewritten. Written before anything changes, removed last; from
 * `switching` on it is carried out to its end, by whoever finds it.
 */
export const mergeDocument = z.object({
  format,
  /** See `plan-merge.ts`. `compress` writes the layer anew, with the same parent. */
  operation: z.enum(['commit', 'stream', 'full', 'compress']),
  stage: z.enum(['moving', 'switching']),
  /** The layer whose content stays; it keeps its name. */
  top: layerName,
  /** The file that becomes `top`, for `commit`. */
  into: layerName.nullable(),
  /** Layers that are gone afterwards. */
  vanishing: z.array(layerName),
  /** What `top` stands on afterwards. */
  parent_layer: layerName.nullable(),
  parent_backup_id: id.nullable(),
  /** The sidecar that `top` gets; null while `moving`. */
  sidecar: sidecarDocument.nullable(),
});

export type RepositoryDocument = z.infer<typeof repositoryDocument>;
export type HolderDocument = z.infer<typeof holderDocument>;
export type VmDocument = z.infer<typeof vmDocument>;
export type Verification = z.infer<typeof verification>;
export type Sidecar = z.infer<typeof sidecarDocument>;
export type PinsDocument = z.infer<typeof pinsDocument>;
export type MergeDocument = z.infer<typeof mergeDocument>;
export type Manifest = z.infer<typeof manifestDocument>;
export type ManifestDisk = Manifest['disks'][number];
