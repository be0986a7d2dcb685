import { realpath } from 'node:fs/promises';
import { isAbsolute, normalize } from 'node:path';
import type { Clock } from '../base/clock.ts';
import { contextIdFor, firstFree, newUuid } from '../base/ids.ts';
import { SendenseError } from '../base/sendense-error.ts';
import type { DiskFormat, LibvirtReference } from '../base/source-reference.ts';
import { inspectDisk } from '../capture/image/inspect-disk.ts';
import { sourceGraph } from '../capture/image/source-graph.ts';
import type { MachineDescription, SourceOf } from '../capture/source.ts';
import type { Catalog } from '../catalog/catalog.ts';
import type { Vm, VmDisk } from '../catalog/vms.ts';
import { foundDisks, machineRef } from './backup/plan/machine-ref.ts';
import { findVm } from './find-backup.ts';
import { writeLabels } from './machines/write-labels.ts';
import type { Repositories } from './repository/repositories.ts';
import type { ResourceLocks } from './resource-locks.ts';
import { withLabels } from './with-labels.ts';

export interface VmDeps {
  readonly catalog: Catalog;
  readonly clock: Clock;
  readonly locks: ResourceLocks;
  readonly repositories: Repositories;
  readonly sourceOf: SourceOf;
  readonly agents: AgentDisks;
}

/** The disks of other hosts. */
export interface AgentDisks {
  /** @throws AGENT_UNKNOWN, AGENTS_OFF */
  idOf(agentName: string): string;
  /** As `inspectDisk`, with the path without links. @throws AGENT_OFFLINE, PATH_NOT_GIVEN, SOURCE_… */
  inspect(
    agentId: string,
    disk: {
      readonly path: string;
      readonly format: DiskFormat | null;
      readonly allowBacking: readonly string[];
    },
  ): Promise<{ readonly path: string; readonly format: DiskFormat }>;
}

export interface DiskInput {
  readonly path: string;
  /** Absent: decided once, now, by the header. */
  readonly format?: DiskFormat | undefined;
}

export interface VmChange {
  /** Name of the agent at which all its disks are; only when it is added. */
  readonly agent?: string | undefined;
  readonly addDisks?: readonly DiskInput[] | undefined;
  readonly removeDisks?: readonly string[] | undefined;
  readonly before?: string | null | undefined;
  readonly after?: string | null | undefined;
  readonly allowBacking?: readonly string[] | undefined;
  /** Labels to set; null takes one away. Others stay. */
  readonly labels?: Readonly<Record<string, string | null>> | undefined;
  /** Why it is left without backups; null: it is to be protected. */
  readonly unprotected?: string | null | undefined;
  /** For a machine of a libvirt, instead of disks. */
  readonly libvirt?: Partial<Omit<LibvirtReference, 'kind'>> | undefined;
}

/**
 * Registers a machine; one that only its backups are known of is taken up again with its history.
 * @throws VM_EXISTS, SOURCE_…, PATH_INVALID
 */
export async function addVm(deps: VmDeps, name: string, change: VmChange): Promise<Vm> {
  // a repository that is being read may have its history
  await deps.repositories.firstLooks();
  const known = deps.catalog.vms.byName(name);
  if (known?.registered) throw new SendenseError('VM_EXISTS', { vm: name });
  const now = deps.clock.now();
  const agentId = change.agent === undefined ? null : deps.agents.idOf(change.agent);
  const fresh: Vm = {
    contextId: firstFree(contextIdFor(name, now), (id) => deps.catalog.vms.byContext(id) !== null),
    vmUuid: newUuid(),
    name,
    source: { kind: 'image' },
    registered: true,
    beforeCommand: null,
    afterCommand: null,
    allowBacking: [],
    labels: {},
    unprotected: null,
    agentId,
    createdAt: now.toISOString(),
    disks: [],
  };
  const base = known
    ? {
        ...known,
        source: fresh.source,
        registered: true,
        agentId,
        disks: known.disks.map((disk) => ({ ...disk, active: false })),
      }
    : fresh;
  return await applyChange(deps, base, change);
}

/** @throws VM_UNKNOWN, VM_BUSY, DISK_UNKNOWN, SOURCE_…, PATH_INVALID */
export async function changeVm(deps: VmDeps, name: string, change: VmChange): Promise<Vm> {
  const vm = findVm(deps.catalog, name);
  const release = lockVm(deps, vm);
  try {
    return await applyChange(deps, vm, change);
  } finally {
    release();
  }
}

/** Ends the registration; backups stay when that was said. @throws VM_UNKNOWN, VM_BUSY, VM_HAS_BACKUPS */
export function removeVm(deps: VmDeps, name: string, keepBackups: boolean): void {
  const vm = findVm(deps.catalog, name);
  const release = lockVm(deps, vm);
  try {
    const count = deps.catalog.backups.list({
      contextId: vm.contextId,
      status: 'completed',
      limit: -1,
    }).length;
    if (count > 0 && !keepBackups) throw new SendenseError('VM_HAS_BACKUPS', { vm: name, count });
    if (count === 0) deps.catalog.vms.remove(vm.contextId);
    else
      deps.catalog.vms.save(
        {
          ...{ ...vm, registered: false, beforeCommand: null, afterCommand: null, allowBacking: [] },
          agentId: null,
        },
        deps.clock.now(),
      );
  } finally {
    release();
  }
}

const lockVm = (deps: VmDeps, vm: Vm) =>
  deps.locks.acquire('a change of the machine', [
    {
      resource: `vm:${vm.contextId}`,
      exclusive: true,
      busy: (job) => new SendenseError('VM_BUSY', { vm: vm.name, job }),
    },
  ]);

async function applyChange(deps: VmDeps, before: Vm, change: VmChange): Promise<Vm> {
  const vm = change.libvirt === undefined ? before : await inLibvirt(deps, before, change.libvirt);
  if (vm.source.kind !== 'image' && (change.addDisks?.length || change.removeDisks?.length))
    throw new SendenseError('REQUEST_INVALID', {
      detail: `the disks of "${vm.name}" are those that libvirt knows; leave some out with --exclude-disk`,
    });
  const { agentId } = vm;
  const allowBacking = change.allowBacking
    ? agentId === null
      ? await Promise.all(change.allowBacking.map(allowedFolder))
      : change.allowBacking
    : vm.allowBacking;
  let disks = vm.disks;
  for (const wanted of change.removeDisks ?? []) disks = withoutDisk(vm.name, disks, wanted);
  for (const input of change.addDisks ?? [])
    disks = await withDisk(disks, input, (key) =>
      agentId === null
        ? inspectHere(key, input.format ?? null, allowBacking)
        : deps.agents.inspect(agentId, { path: key, format: input.format ?? null, allowBacking }),
    );
  const changed: Vm = {
    ...vm,
    disks,
    allowBacking,
    labels: withLabels(vm.labels, change.labels ?? {}),
    unprotected: change.unprotected === undefined ? vm.unprotected : change.unprotected,
    beforeCommand: change.before === undefined ? vm.beforeCommand : change.before,
    afterCommand: change.after === undefined ? vm.afterCommand : change.after,
  };
  if (!disks.some((disk) => disk.active))
    throw new SendenseError('REQUEST_INVALID', { detail: 'a machine needs at least one disk' });
  deps.catalog.vms.save(changed, deps.clock.now());
  if (textOf(changed) !== textOf(vm)) await writeLabels(deps, changed);
  return changed;
}

/** What a repository keeps of the decisions of an operator. */
const textOf = ({ labels, unprotected }: Vm): string => JSON.stringify([labels, unprotected]);

const ALL_DISKS = { includeDisks: [], excludeDisks: [], freeze: true } as const;

/** The machine with the disks that libvirt knows. @throws LIBVIRT_…, DOMAIN_UNKNOWN, DISK_UNKNOWN */
async function inLibvirt(
  deps: VmDeps,
  vm: Vm,
  { uri, domain, ...rest }: Partial<Omit<LibvirtReference, 'kind'>>,
): Promise<Vm> {
  const known = vm.source.kind === 'libvirt' ? vm.source : null;
  const source: LibvirtReference = {
    ...(known ?? { kind: 'libvirt', ...ALL_DISKS }),
    uri: uri ?? known?.uri ?? 'qemu:///system',
    domain: domain ?? known?.domain ?? vm.name,
    ...rest,
  };
  const described = await deps.sourceOf('libvirt', vm.agentId).describe(machineRef({ ...vm, source }));
  for (const wanted of [...source.includeDisks, ...source.excludeDisks])
    if (![...described.disks, ...described.leftOut].some(({ key }) => key === wanted))
      throw new SendenseError('DISK_UNKNOWN', { subject: `The domain ${source.domain}`, disk: wanted });
  return { ...vm, source: described.source, disks: foundDisks(vm.disks, described.disks) };
}

/** The machines of a libvirt, and under which names they are registered. */
export async function discoverVms(
  deps: Pick<VmDeps, 'catalog' | 'sourceOf'>,
  uri: string,
): Promise<(MachineDescription & { readonly registeredAs: string | null })[]> {
  const found = await Array.fromAsync(deps.sourceOf('libvirt', null).discover(uri));
  const known = deps.catalog.vms.all().filter(({ registered }) => registered);
  const domainOf = ({ source }: Pick<Vm, 'source'>) => (source.kind === 'libvirt' ? source.domain : null);
  return found.map((machine) => ({
    ...machine,
    registeredAs: known.find((vm) => domainOf(vm) === domainOf(machine))?.name ?? null,
  }));
}

async function allowedFolder(path: string): Promise<string> {
  if (!isAbsolute(path)) throw new SendenseError('PATH_INVALID', { path, detail: 'it is not absolute' });
  return await realpath(path).catch((error: unknown) => {
    throw new SendenseError('PATH_INVALID', { path, detail: 'it does not exist' }, error);
  });
}

async function inspectHere(
  key: string,
  format: DiskFormat | null,
  allowBacking: readonly string[],
): Promise<{ path: string; format: DiskFormat }> {
  const inspected = await inspectDisk(key, format);
  // a header that reaches beyond the allowed folders is refused now, not at 3 a.m.
  if (inspected.format === 'qcow2') await sourceGraph(key, { allowBacking, forceShare: false });
  return { path: key, format: inspected.format };
}

async function withDisk(
  disks: readonly VmDisk[],
  input: DiskInput,
  inspect: (key: string) => Promise<{ path: string; format: DiskFormat }>,
): Promise<VmDisk[]> {
  const hasControl = [...input.path].some((character) => character.charCodeAt(0) < 0x20);
  if (!isAbsolute(input.path) || hasControl)
    throw new SendenseError('PATH_INVALID', { path: input.path, detail: 'it is no absolute path' });
  const { path: key, format } = await inspect(normalize(input.path));
  const known = disks.find((disk) => disk.key === key);
  if (known?.active) throw new SendenseError('REQUEST_INVALID', { detail: `the disk ${key} is named twice` });
  const diskIndex = known?.diskIndex ?? disks.reduce((next, disk) => Math.max(next, disk.diskIndex + 1), 0);
  const added: VmDisk = { diskIndex, key, format, active: true };
  return [...disks.filter((disk) => disk.diskIndex !== diskIndex), added].toSorted(
    (a, b) => a.diskIndex - b.diskIndex,
  );
}

function withoutDisk(vmName: string, disks: readonly VmDisk[], wanted: string): VmDisk[] {
  const found = disks.find(
    (disk) => disk.active && (disk.key === wanted || String(disk.diskIndex) === wanted),
  );
  if (!found) throw new SendenseError('DISK_UNKNOWN', { subject: `The machine "${vmName}"`, disk: wanted });
  return disks.map((disk) => (disk === found ? { ...disk, active: false } : disk));
}
