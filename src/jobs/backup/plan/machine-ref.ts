import { realpath } from 'node:fs/promises';
import type { DiskDescription, MachineRef } from '../../../capture/source.ts';
import type { Vm, VmDisk } from '../../../catalog/vms.ts';

/** A registered machine as its source is asked about it. Pure. */
export const machineRef = (vm: Vm): MachineRef => ({
  name: vm.name,
  uuid: vm.vmUuid,
  source: vm.source,
  disks: vm.disks.filter(({ active }) => active),
  allowBacking: vm.allowBacking,
  isFrozen: vm.beforeCommand !== null,
});

/** Names of what two jobs must not read at once: two names of one disk are one disk. */
export async function placesOf(vm: Vm): Promise<string[]> {
  const { source, agentId } = vm;
  const host = agentId === null ? '' : `${agentId}:`;
  if (source.kind === 'libvirt') return [`${host}${source.uri}#${source.domain}`];
  const disks = vm.disks.filter((disk) => disk.active);
  // an agent told paths without links when they were registered
  if (agentId !== null) return disks.map((disk) => `${host}${disk.key}`);
  // a missing one is reported by the job itself
  return await Promise.all(disks.map((disk) => realpath(disk.key).catch(() => disk.key)));
}

/**
 * The disks of a machine whose source knows them better than its registration: a new one gets the next index, one that
 * is gone keeps its own, since old layers bear it. Pure.
 */
export function foundDisks(known: readonly VmDisk[], found: readonly DiskDescription[]): VmDisk[] {
  let next = known.reduce((highest, { diskIndex }) => Math.max(highest, diskIndex + 1), 0);
  const kept = known.map((disk): VmDisk => {
    const now = found.find(({ key }) => key === disk.key);
    return now ? { ...disk, format: now.format, active: true } : { ...disk, active: false };
  });
  const added = found
    .filter(({ key }) => !known.some((disk) => disk.key === key))
    .map(({ key, format }): VmDisk => {
      const diskIndex = next;
      next += 1;
      return { diskIndex, key, format, active: true };
    });
  return [...kept, ...added];
}
