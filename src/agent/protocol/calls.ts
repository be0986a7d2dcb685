import { z } from 'zod';
import { transferId } from './messages.ts';

/** The questions of the appliance and their answers, as they stand in `Call.body` and `Answer.body`. */

const size = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const path = z.string().min(1).max(4096);
const format = z.enum(['raw', 'qcow2']);
const id = z.string().regex(/^[A-Za-z0-9._-]{1,128}$/);
const names = z.array(z.string().max(256)).max(256);
const text = z.string().max(4096);

const source = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('image') }),
  z.object({
    kind: z.literal('libvirt'),
    uri: text,
    domain: text,
    includeDisks: names,
    excludeDisks: names,
    freeze: z.boolean(),
  }),
]);

const machine = z.object({
  name: z.string().max(64),
  uuid: z.string().max(64),
  source,
  disks: z.array(z.object({ key: path, format })).max(256),
  allowBacking: z.array(path).max(64),
  isFrozen: z.boolean(),
});

const description = z.object({
  name: z.string().max(256),
  source,
  isRunning: z.boolean(),
  disks: z.array(z.object({ key: path, format, sizeBytes: size.min(512) })).max(256),
  leftOut: z.array(z.object({ key: path, reason: text })).max(256),
});

/** What people call a disk, and what the mover reads; only the agent knows what it means. */
const spec = z.record(z.string(), z.unknown());

/** How the agent reaches an export. `host` null: where it reaches the appliance. */
const way = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('local'), socketPath: path }),
  z.object({ kind: z.literal('tls'), port: size }),
  z.object({
    kind: z.literal('ssh'),
    sshPort: size,
    user: z.string().regex(/^[a-z_][a-z0-9_-]{0,31}$/),
    /** `ssh-ed25519 AAAA…` */
    hostKey: z.string().regex(/^ssh-ed25519 [A-Za-z0-9+/=]{20,200}$/),
    /** On the loopback of the appliance. */
    port: size,
  }),
]);
const pem = z.string().max(16_384);
const tls = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('psk'), identity: id, keyHex: z.string().regex(/^[0-9a-f]{64}$/) }),
  /** The private key is the agent's own and never travels. */
  z.object({ kind: z.literal('x509'), ca: pem, certificate: pem }),
]);
export type AgentWay = z.infer<typeof way>;
export type AgentTls = z.infer<typeof tls>;

const nothing = z.object({});
const changeId = z.string().max(4096);
const configuration = z
  .object({
    kind: z.literal('libvirt'),
    domain_xml: z.string(),
    checkpoint_xml: z.string().nullable(),
    nvram_zst: z.string().nullable(),
  })
  .nullable();

export const calls = {
  /** Machines at a place that the kind of source understands. */
  discover: {
    ask: z.object({ kind: z.enum(['image', 'libvirt']), place: text }),
    answer: z.object({ machines: z.array(description).max(2000) }),
  },
  /** Looks at a disk that shall be registered; format null: its header decides. */
  inspect: {
    ask: z.object({ path, format: format.nullable(), allowBacking: z.array(path).max(64) }),
    answer: z.object({ path, format, sizeBytes: size.min(512), allocatedBytes: size.nullable() }),
  },
  describe: { ask: z.object({ machine }), answer: description },
  snapshot: {
    ask: z.object({
      snapshotId: id,
      machine,
      since: z.record(z.string(), z.object({ changeId, configuration })),
    }),
    answer: z.object({
      consistency: z.enum(['application', 'filesystem', 'crash']),
      configuration,
      warnings: z.array(text).max(100),
      disks: z
        .array(z.object({ key: path, sizeBytes: size.min(512), changeId: changeId.nullable() }))
        .max(256),
    }),
  },
  /** Makes a disk of a snapshot readable; with its changes since then when that is asked for and known. */
  open: {
    ask: z.object({ snapshotId: id, key: path, since: changeId.nullable() }),
    answer: z.union([
      z.object({
        /** By it a transfer refers to what was opened. */
        openedId: id,
        /** By it the agent knows after a restart whether the disk is still as it was; null: it never is. */
        identity: text.nullable(),
      }),
      z.object({ lost: text }),
    ]),
  },
  /** Opens a disk again for the same backup, after a restart of the agent. @throws SNAPSHOT_LOST */
  reopen: {
    ask: z.object({ snapshotId: id, machine, key: path, identity: text }),
    answer: z.object({ openedId: id }),
  },
  /** Ends a snapshot; nothing of it stays at the source. */
  dispose: { ask: z.object({ snapshotId: id }), answer: nothing },
  cleanUp: { ask: z.object({ machine, leftover: spec }), answer: nothing },
  release: { ask: z.object({ machine, neededChangeIds: z.array(changeId).max(4096) }), answer: nothing },
  transfer: {
    ask: z.object({
      transferId,
      openedId: id,
      sizeBytes: size,
      export: z.object({ name: z.string().regex(/^[a-z0-9.T-]{1,63}$/), way, tls: tls.nullable() }),
      tuning: z.object({
        connections: z.number().int().min(1).max(16),
        inFlight: z.number().int().min(1).max(32),
        canWriteZeroes: z.boolean(),
      }),
      parent: z.object({ layers: z.array(z.string().max(256)).max(1024), sizeBytes: size }).nullable(),
      /** Everything before `from` is done; up to `replayUntil` an earlier attempt may have written. */
      resume: z.object({ from: size, replayUntil: size }),
    }),
    answer: nothing,
  },
  stop: { ask: z.object({ transferId }), answer: nothing },
  /** Of all transfers together; 0: no limit. */
  limit: { ask: z.object({ bytesPerSecond: size }), answer: nothing },
} as const;

export type Method = keyof typeof calls;
export type Ask<M extends Method> = z.infer<(typeof calls)[M]['ask']>;
export type AnswerTo<M extends Method> = z.infer<(typeof calls)[M]['answer']>;

export const isMethod = (name: string): name is Method => Object.hasOwn(calls, name);
