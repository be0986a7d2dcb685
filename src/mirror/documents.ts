import { z } from 'zod';

/** Version of every object of a mirror. A newer one is refused, never guessed. */
export const MIRROR_FORMAT = 1;

const format = z.literal(MIRROR_FORMAT);
const time = z.iso.datetime();
const bytes = z.number().int().min(0);
const hex32 = z.string().regex(/^[0-9a-f]{64}$/);
const base64 = z.base64();
const text = z.string().min(1).max(512);
/** `<backup-id>-disk<N>`, and nothing that could leave its folder. */
export const pointNamePattern = /^[A-Za-z0-9][A-Za-z0-9._-]{0,190}$/;
const pointName = z.string().regex(pointNamePattern);
const packId = z.uuid();

/** `repo/format.json`: proof that a prefix is a mirror, and which one. Written once. */
export const formatDocument = z.object({
  format,
  mirror_id: z.uuid(),
  mode: z.enum(['packed', 'plain']),
  digest: z.literal('blake3'),
  encryption: z.enum(['none', 'aes-256-gcm']),
  /** Of `plain`: bytes of a block object; the last one of a disk may be shorter. */
  block_bytes: bytes,
  created_at: time,
});

/** `repo/keys/<n>.json`: the master key, wrapped under a passphrase. Each slot opens the mirror by itself. */
export const keySlotDocument = z.object({
  format,
  slot: z.number().int().min(1).max(99),
  kind: z.enum(['passphrase', 'recovery']),
  label: z.string().max(100),
  created_at: time,
  kdf: z.object({
    name: z.literal('scrypt'),
    /** Bounded: whoever writes it must not be able to take all memory of a reader. */
    n: z.number().int().min(1024).max(1_048_576),
    r: z.number().int().min(1).max(32),
    p: z.number().int().min(1).max(16),
    salt: base64,
  }),
  iv: base64,
  wrapped: base64,
});

/** `repo/owner.json`: the one appliance that may write. Its epoch grows with each change of owner. */
export const ownerDocument = z.object({
  format,
  appliance_id: z.uuid(),
  host: z.string().max(255),
  epoch: z.number().int().min(1),
  since: time,
});

/** `metadata/<point>/chain.json`: what it stands on and which objects it needs besides its own. */
export const chainDocument = z.object({
  format,
  snapshotName: pointName,
  baseSnapshotName: pointName.nullable(),
  isIncremental: z.boolean(),
  /** Nearest first, down to one that is whole. */
  dependencies: z.array(pointName).max(512),
  /** Packs that its rows lie in. */
  packs: z.array(packId),
  /** Of `plain`: other points whose block objects its rows refer to. */
  borrowed: z.array(pointName),
});

/** The restore point, one layer and the machine as the repository describes them. */
export const repositoryDocuments = z.object({
  backup: z.record(z.string(), z.unknown()),
  sidecar: z.record(z.string(), z.unknown()),
  machine: z.record(z.string(), z.unknown()),
});

/**
 * `metadata/<point>/manifest.json`: written last. No manifest, no restore point. The first fields are those that
 * readers of the plain layout know.
 */
export const manifestDocument = z.object({
  format,
  name: pointName,
  namespace: z.string(),
  pvcName: z.string(),
  timestamp: time,
  volumeSize: bytes,
  isIncremental: z.boolean(),
  /** Rows of its own that hold data. */
  totalBlocks: bytes,
  /** Guest bytes in them. */
  totalSize: bytes,
  blockSize: bytes,
  volumeMode: z.literal('Block'),
  csiDriver: z.string(),
  mirror_id: z.uuid(),
  epoch: z.number().int().min(1),
  backup_id: text,
  disk_index: z.number().int().min(0),
  /** All disks of the restore point: it is whole when each of these has its manifest. */
  members: z.array(pointName).min(1),
  vm: z.object({ vm_uuid: z.uuid(), vm_name: text, context_id: text }),
  completed_at: time,
  /** The documents of the repository, to make one anew. They may hold secrets of the machine: sealed under encryption. */
  documents: z.union([z.object({ sealed: base64 }), repositoryDocuments]),
  uploaded_at: time,
  /** Bytes that its upload added to the bucket. */
  stored_bytes: bytes,
  blocks_digest: hex32,
  chain_digest: hex32,
  /** HMAC of all above under a key of the mirror; a plain digest without encryption. */
  mac: hex32,
});

/** `uploads/<point>/<session>.json`: somebody writes this point; the collector deletes nothing meanwhile. */
export const sessionDocument = z.object({
  format,
  session_id: z.uuid(),
  point: pointName,
  appliance_id: z.uuid(),
  epoch: z.number().int().min(1),
  started_at: time,
  /** Packs that are complete in the bucket: a later attempt takes them up again. */
  packs: z.array(packId),
});

/** `gc/condemned/<run>.json`: nothing referred to these when all manifests were read. */
export const condemnedDocument = z.object({
  format,
  run_id: z.uuid(),
  epoch: z.number().int().min(1),
  keys: z.array(z.string().min(1).max(1024)),
});

export type FormatDocument = z.infer<typeof formatDocument>;
export type KeySlot = z.infer<typeof keySlotDocument>;
export type OwnerDocument = z.infer<typeof ownerDocument>;
export type ChainDocument = z.infer<typeof chainDocument>;
export type PointManifest = z.infer<typeof manifestDocument>;
export type RepositoryDocuments = z.infer<typeof repositoryDocuments>;
export type SessionDocument = z.infer<typeof sessionDocument>;
