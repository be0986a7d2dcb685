import type { Vm } from '../../catalog/vms.ts';
import { REPOSITORY_FORMAT, type VmDocument } from '../../repository/documents.ts';

/** What a repository keeps of a machine. No command and no place to connect to is in it. Pure. */
export const vmDocumentOf = (vm: Vm, now: Date): VmDocument => ({
  format: REPOSITORY_FORMAT,
  vm_uuid: vm.vmUuid,
  vm_name: vm.name,
  context_id: vm.contextId,
  source_kind: vm.source.kind,
  disks: vm.disks.map((disk) => ({ disk_index: disk.diskIndex, key: disk.key, format: disk.format })),
  labels: { ...vm.labels },
  unprotected: vm.unprotected,
  written_at: now.toISOString(),
});
