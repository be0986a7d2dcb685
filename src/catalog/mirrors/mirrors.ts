import type { Db } from '../open/open-catalog.ts';

/** An S3 mirror as it was set up. */
export interface MirrorRecord {
  readonly name: string;
  readonly mirrorId: string;
  readonly endpoint: string;
  readonly region: string;
  readonly bucket: string;
  /** Empty, or ends with a slash. */
  readonly prefix: string;
  readonly accessKey: string;
  readonly secretKeyFile: string;
  readonly pathStyle: boolean;
  readonly tlsCaFile: string | null;
  readonly mode: 'packed' | 'plain';
  readonly blockBytes: number;
  readonly isEncrypted: boolean;
  /** Null: for reading only. */
  readonly epoch: number | null;
  readonly capabilities: Readonly<Record<string, unknown>> | null;
  readonly settings: MirrorSettings;
  readonly createdAt: string;
}

export interface MirrorSettings {
  /** Of zstd; 0: off. */
  readonly level: number;
  /** After each backup, by itself. */
  readonly isAutomatic: boolean;
  /** Only these machines; empty: all. */
  readonly vms: readonly string[];
  /** Null: as fast as it goes. */
  readonly mibPerSecond: number | null;
  readonly rateWindows: readonly {
    readonly fromMinute: number;
    readonly toMinute: number;
    readonly mibPerSecond: number;
  }[];
  readonly lock: { readonly mode: 'governance' | 'compliance'; readonly days: number } | null;
  /** Rules of `prune`, as in `retention` of the configuration. */
  readonly retention: Readonly<Record<string, unknown>>;
  /** The mirror runs of policies renew its locks, delete by its rules and collect what nothing needs. */
  readonly hasUpkeep: boolean;
  /** Between condemning and deleting. */
  readonly graceHours: number;
}

/** Of a mirror of which nothing else was said, and of one that was made before a setting came. */
export const defaultMirrorSettings: MirrorSettings = {
  level: 1,
  isAutomatic: true,
  vms: [],
  mibPerSecond: null,
  rateWindows: [],
  lock: null,
  retention: {},
  hasUpkeep: true,
  graceHours: 24,
};

/** One disk of a restore point in a mirror. */
export interface MirrorPoint {
  readonly name: string;
  readonly backupId: string;
  readonly diskIndex: number;
  readonly vmName: string;
  readonly vmUuid: string;
  readonly createdAt: string;
  readonly completedAt: string;
  readonly uploadedAt: string;
  readonly sizeBytes: number;
  readonly dataBytes: number;
  readonly storedBytes: number;
  /** Names of all disks of the restore point: it is whole when each is there. */
  readonly members: readonly string[];
  readonly lockedUntil: string | null;
  /** Of its manifest: while it is the same, nothing above but the lock can have changed. */
  readonly etag: string;
}

type Row = { name: string; mirror_id: string; document: string; created_at: string };

function toRecord(row: Row): MirrorRecord {
  const document = JSON.parse(row.document) as Omit<MirrorRecord, 'name' | 'mirrorId' | 'createdAt'>;
  return {
    ...document,
    settings: { ...defaultMirrorSettings, ...document.settings },
    name: row.name,
    mirrorId: row.mirror_id,
    createdAt: row.created_at,
  };
}

export function mirrorQueries(db: Db) {
  const all = db.prepare<[], Row>('SELECT * FROM mirrors ORDER BY name');
  const byName = db.prepare<[string], Row>('SELECT * FROM mirrors WHERE name = ?');
  const save = db.prepare(
    `INSERT INTO mirrors (name, mirror_id, document, created_at) VALUES (@name, @mirrorId, @document, @createdAt)
     ON CONFLICT (name) DO UPDATE SET mirror_id = @mirrorId, document = @document`,
  );
  const remove = db.prepare<[string]>('DELETE FROM mirrors WHERE name = ?');
  const dropPoints = db.prepare<[string]>('DELETE FROM mirror_points WHERE mirror = ?');
  const addPoint = db.prepare(
    `INSERT OR REPLACE INTO mirror_points (mirror, name, backup_id, vm_name, completed_at, document)
     VALUES (@mirror, @name, @backupId, @vmName, @completedAt, @document)`,
  );
  const points = db.prepare<[string], { document: string }>(
    'SELECT document FROM mirror_points WHERE mirror = ? ORDER BY completed_at DESC, name',
  );
  const machineOf = db
    .prepare<[string], string>('SELECT vm_name FROM mirror_points WHERE backup_id = ? LIMIT 1')
    .pluck();
  const addPruned = db.prepare<[string, string]>(
    'INSERT OR IGNORE INTO mirror_pruned (mirror, backup_id) VALUES (?, ?)',
  );
  const dropPruned = db.prepare<[string, string]>(
    'DELETE FROM mirror_pruned WHERE mirror = ? AND backup_id = ?',
  );
  const pruned = db.prepare<[string], { backup_id: string }>(
    'SELECT backup_id FROM mirror_pruned WHERE mirror = ?',
  );
  return {
    /** Restore points that are not to be uploaded again by themselves. */
    pruned: (name: string): Set<string> => new Set(pruned.all(name).map(({ backup_id }) => backup_id)),
    addPruned: db.transaction((name: string, backupIds: readonly string[]) => {
      for (const id of backupIds) addPruned.run(name, id);
    }),
    /** It was asked for again. */
    dropPruned: (name: string, backupId: string): void => {
      dropPruned.run(name, backupId);
    },
    all: (): MirrorRecord[] => all.all().map(toRecord),
    byName: (name: string): MirrorRecord | null => {
      const row = byName.get(name);
      return row ? toRecord(row) : null;
    },
    save: (record: MirrorRecord): void => {
      const { name, mirrorId, createdAt, ...document } = record;
      save.run({ name, mirrorId, createdAt, document: JSON.stringify(document) });
    },
    remove: (name: string): void => {
      remove.run(name);
    },
    /** Whose restore point it is, as any mirror says. */
    machineOf: (backupId: string): string | null => machineOf.get(backupId) ?? null,
    /** Newest first. */
    points: (name: string): MirrorPoint[] =>
      points.all(name).map(({ document }) => JSON.parse(document) as MirrorPoint),
    replacePoints: db.transaction((name: string, found: readonly MirrorPoint[]) => {
      dropPoints.run(name);
      for (const point of found)
        addPoint.run({
          mirror: name,
          name: point.name,
          backupId: point.backupId,
          vmName: point.vmName,
          completedAt: point.completedAt,
          document: JSON.stringify(point),
        });
    }),
  };
}

export type MirrorQueries = ReturnType<typeof mirrorQueries>;
