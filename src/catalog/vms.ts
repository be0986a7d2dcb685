import type { DiskFormat, SourceReference } from '../base/source-reference.ts';
import type { Db } from './open/open-catalog.ts';

export interface VmDisk {
  readonly diskIndex: number;
  /** The source's own identity of the disk: for images the absolute path, for libvirt the target. */
  readonly key: string;
  readonly format: DiskFormat;
  readonly active: boolean;
}

export interface Vm {
  readonly contextId: string;
  readonly vmUuid: string;
  readonly name: string;
  readonly source: SourceReference;
  readonly registered: boolean;
  /** Where its disks are; null: on this host. */
  readonly agentId: string | null;
  readonly beforeCommand: string | null;
  readonly afterCommand: string | null;
  /** Folders in which a source qcow2's backing files may lie. */
  readonly allowBacking: readonly string[];
  /** What policies choose it by. */
  readonly labels: Readonly<Record<string, string>>;
  /** Why nobody is to miss its backups; null: it is to be protected. */
  readonly unprotected: string | null;
  readonly createdAt: string;
  readonly disks: readonly VmDisk[];
}

interface VmRow {
  context_id: string;
  vm_uuid: string;
  vm_name: string;
  source: string;
  registered: number;
  agent_id: string | null;
  before_command: string | null;
  after_command: string | null;
  allow_backing: string;
  labels: string;
  unprotected: string | null;
  created_at: string;
}

interface DiskRow {
  disk_index: number;
  disk_key: string;
  format: DiskFormat;
  active: number;
}

export function vmQueries(db: Db) {
  const disksOf = db.prepare<[string], DiskRow>(
    'SELECT disk_index, disk_key, format, active FROM vm_disks WHERE context_id = ? ORDER BY disk_index',
  );
  const allDisks = db.prepare<[], DiskRow & { context_id: string }>(
    'SELECT context_id, disk_index, disk_key, format, active FROM vm_disks ORDER BY context_id, disk_index',
  );
  const toVm = (row: VmRow, disks: readonly DiskRow[] = disksOf.all(row.context_id)): Vm => ({
    contextId: row.context_id,
    vmUuid: row.vm_uuid,
    name: row.vm_name,
    source: JSON.parse(row.source) as SourceReference,
    registered: row.registered === 1,
    agentId: row.agent_id,
    beforeCommand: row.before_command,
    afterCommand: row.after_command,
    allowBacking: JSON.parse(row.allow_backing) as string[],
    labels: JSON.parse(row.labels) as Record<string, string>,
    unprotected: row.unprotected,
    createdAt: row.created_at,
    disks: disks.map((disk) => ({
      diskIndex: disk.disk_index,
      key: disk.disk_key,
      format: disk.format,
      active: disk.active === 1,
    })),
  });
  const byName = db.prepare<[string], VmRow>('SELECT * FROM vm_contexts WHERE vm_name = ?');
  const byContext = db.prepare<[string], VmRow>('SELECT * FROM vm_contexts WHERE context_id = ?');
  const byUuid = db.prepare<[string], VmRow>('SELECT * FROM vm_contexts WHERE vm_uuid = ?');
  const all = db.prepare<[], VmRow>('SELECT * FROM vm_contexts ORDER BY vm_name');
  const upsert = db.prepare(
    `INSERT INTO vm_contexts (context_id, vm_uuid, vm_name, source, registered, before_command, after_command, allow_backing, agent_id, labels, unprotected, created_at, updated_at)
     VALUES (@contextId, @vmUuid, @name, @source, @registered, @beforeCommand, @afterCommand, @allowBacking, @agentId, @labels, @unprotected, @createdAt, @now)
     ON CONFLICT (context_id) DO UPDATE SET source = @source, registered = @registered, before_command = @beforeCommand, after_command = @afterCommand,
       allow_backing = @allowBacking, agent_id = @agentId, labels = @labels, unprotected = @unprotected, updated_at = @now`,
  );
  const upsertDisk = db.prepare(
    `INSERT INTO vm_disks (context_id, disk_index, disk_key, format, active) VALUES (@contextId, @diskIndex, @key, @format, @active)
     ON CONFLICT (context_id, disk_index) DO UPDATE SET format = @format, active = @active`,
  );
  const updatedAt = db
    .prepare<[string], string>('SELECT updated_at FROM vm_contexts WHERE context_id = ?')
    .pluck();
  const remove = db.prepare<[string]>('DELETE FROM vm_contexts WHERE context_id = ?');
  return {
    byName: (name: string): Vm | null => {
      const row = byName.get(name);
      return row ? toVm(row) : null;
    },
    byContext: (contextId: string): Vm | null => {
      const row = byContext.get(contextId);
      return row ? toVm(row) : null;
    },
    byUuid: (vmUuid: string): Vm | null => {
      const row = byUuid.get(vmUuid);
      return row ? toVm(row) : null;
    },
    all: (): Vm[] => {
      const disks = Map.groupBy(allDisks.all(), ({ context_id }) => context_id);
      return all.all().map((row) => toVm(row, disks.get(row.context_id) ?? []));
    },
    /** Writes the machine and all its disks; a disk is never forgotten, only inactive. */
    save: db.transaction((vm: Vm, now: Date) => {
      upsert.run({
        ...vm,
        source: JSON.stringify(vm.source),
        registered: vm.registered ? 1 : 0,
        allowBacking: JSON.stringify(vm.allowBacking),
        labels: JSON.stringify(vm.labels),
        now: now.toISOString(),
      });
      for (const disk of vm.disks)
        upsertDisk.run({ contextId: vm.contextId, ...disk, active: disk.active ? 1 : 0 });
    }),
    /** When it was saved last; of one out of a repository, when its document was written there. */
    updatedAt: (contextId: string): string | null => updatedAt.get(contextId) ?? null,
    remove: (contextId: string) => remove.run(contextId),
  };
}

export type VmQueries = ReturnType<typeof vmQueries>;
