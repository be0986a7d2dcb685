import type { MirrorPoint } from '../../catalog/mirrors/mirrors.ts';
import type { KeySlot } from '../documents.ts';
import type { NewMirror } from '../set-up.ts';
import type { Capabilities, StorePlace } from '../store/object-store.ts';
import type { RateLimit } from '../store/pacer.ts';
import type { SyncProgress } from '../upload/sync-progress.ts';
import type { BackupInput } from '../upload/sync-task.ts';

/** What opens a mirror, as the daemon keeps it. */
export interface MirrorAccess {
  readonly place: StorePlace;
  /** Endpoint, bucket and prefix, for people. */
  readonly label: string;
  readonly mirrorId: string;
  readonly mode: 'packed' | 'plain';
  readonly blockBytes: number;
  /** Master key in hex; null: not encrypted. */
  readonly master: string | null;
  readonly applianceId: string;
  /** Null: for reading only. */
  readonly epoch: number | null;
}

export interface RetentionOrder {
  readonly mode: 'governance' | 'compliance';
  /** ISO 8601, UTC. */
  readonly until: string;
}

/** Work for the program `sendense-mirror`, sent as one line on its stdin. */
export type MirrorTask =
  | {
      readonly task: 'create';
      readonly place: StorePlace;
      readonly label: string;
      readonly applianceId: string;
      readonly createBucket: boolean;
      readonly wantLock: boolean;
      readonly wanted: NewMirror;
    }
  | {
      readonly task: 'attach';
      readonly place: StorePlace;
      readonly label: string;
      readonly applianceId: string;
      readonly passphrase: string | null;
      readonly takeOver: boolean;
      readonly wantLock: boolean;
    }
  | { readonly task: 'probe'; readonly place: StorePlace; readonly wantLock: boolean }
  | {
      readonly task: 'points';
      readonly access: MirrorAccess;
      /** Points that were seen before: of those whose manifest is the same only the lock is asked for. */
      readonly known: readonly MirrorPoint[];
    }
  | {
      readonly task: 'sync';
      readonly access: MirrorAccess;
      readonly indexFile: string;
      readonly level: number;
      readonly retention: RetentionOrder | null;
      readonly rate: RateLimit;
      readonly backup: BackupInput;
      /** Points that are not to be relied on; those of this restore point are made anew. */
      readonly damaged: readonly string[];
    }
  | {
      readonly task: 'serve';
      readonly access: MirrorAccess;
      readonly points: readonly { readonly name: string; readonly exportName: string }[];
      readonly socketPath: string;
      readonly cacheBytes: number;
    }
  | {
      readonly task: 'verify';
      readonly access: MirrorAccess;
      /** Of all blocks, in percent, to be read and opened; 0: only whether the objects are there. */
      readonly deepPercent: number;
      /** How often a part of them was read before. */
      readonly run: number;
      /** Null: of a mirror that is only read. */
      readonly indexFile: string | null;
    }
  | {
      readonly task: 'delete';
      readonly access: MirrorAccess;
      readonly indexFile: string;
      readonly points: readonly string[];
    }
  | {
      readonly task: 'collect';
      readonly access: MirrorAccess;
      readonly indexFile: string;
      readonly graceMs: number;
    }
  | {
      readonly task: 'lock';
      readonly access: MirrorAccess;
      readonly indexFile: string;
      readonly points: readonly string[];
      readonly retention: RetentionOrder | null;
      readonly legalHold: boolean | null;
    }
  | {
      readonly task: 'describe';
      readonly access: MirrorAccess;
      /** The rows of each go into this file. */
      readonly points: readonly { readonly name: string; readonly rowFile: string }[];
    }
  | { readonly task: 'keys'; readonly access: MirrorAccess }
  | {
      readonly task: 'add-key';
      readonly access: MirrorAccess;
      readonly label: string;
      /** Null: a recovery key is made and told. */
      readonly passphrase: string | null;
    }
  | { readonly task: 'remove-key'; readonly access: MirrorAccess; readonly slot: number };

export interface Opened {
  readonly mirrorId: string;
  readonly mode: 'packed' | 'plain';
  readonly blockBytes: number;
  readonly master: string | null;
  readonly epoch: number | null;
  readonly capabilities: Capabilities;
}

export interface VerifyReport {
  readonly points: number;
  readonly objects: number;
  readonly blocks: number;
  readonly bytes: number;
  readonly problems: readonly { readonly point: string; readonly key: string; readonly detail: string }[];
  /** Points that need something damaged. */
  readonly damaged: readonly string[];
}

export interface CollectReport {
  readonly condemned: number;
  readonly deleted: number;
  readonly freedBytes: number;
  /** Why nothing was deleted; null: nothing stood in the way. */
  readonly waiting: string | null;
}

/** What each task answers. */
export interface TaskResults {
  readonly create: Opened;
  readonly attach: Opened;
  readonly probe: Capabilities;
  readonly points: { readonly points: readonly MirrorPoint[]; readonly damaged: readonly string[] };
  readonly sync: {
    readonly added: readonly string[];
    readonly lockedUntil: string | null;
    readonly requests: number;
    readonly retries: number;
  } & SyncProgress;
  readonly serve: null;
  readonly verify: VerifyReport;
  readonly delete: { readonly deleted: readonly string[] };
  readonly collect: CollectReport;
  readonly lock: { readonly extended: number };
  readonly describe: {
    readonly points: readonly {
      readonly name: string;
      readonly backup: Readonly<Record<string, unknown>>;
      readonly sidecar: Readonly<Record<string, unknown>>;
      readonly machine: Readonly<Record<string, unknown>>;
    }[];
  };
  readonly keys: { readonly keys: readonly Pick<KeySlot, 'slot' | 'kind' | 'label' | 'created_at'>[] };
  readonly 'add-key': { readonly slot: number; readonly recoveryKey: string | null };
  readonly 'remove-key': { readonly slot: number };
}

export type TaskProgress = SyncProgress;

/** What the program says, each as one line on its stdout. */
export type MirrorMessage =
  | { readonly type: 'progress'; readonly progress: TaskProgress }
  | { readonly type: 'ready' }
  | { readonly type: 'done'; readonly result: unknown }
  | { readonly type: 'failed'; readonly code: string; readonly fields: Record<string, string> };
