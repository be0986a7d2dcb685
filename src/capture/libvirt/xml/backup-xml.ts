import { append, parseXml, writeXml } from './parse-xml.ts';

export interface BackupDisk {
  readonly target: string;
  readonly isTaken: boolean;
  /** The checkpoint since which changes are wanted; null: the whole disk only. */
  readonly since: string | null;
  /** Whether the new checkpoint covers it. */
  readonly tracks: boolean;
  /** On the libvirt host: what the guest overwrites during the backup is kept in it. */
  readonly scratch: string;
}

/** The name of an export is that of the disk, and its bitmap's the one below. */
export const dirtyContext = (target: string): string => `qemu:dirty-bitmap:backup-${target}`;

/** What `virsh backup-begin` wants to know. */
export function backupXml(socket: string, disks: readonly BackupDisk[]): string {
  const document = parseXml("<domainbackup mode='pull'/>");
  const root = document.documentElement;
  if (root === null) return '';
  append(root, 'server', { transport: 'unix', socket });
  const list = append(root, 'disks');
  for (const { target, isTaken, since, scratch } of disks) {
    if (!isTaken) {
      append(list, 'disk', { name: target, backup: 'no' });
      continue;
    }
    const disk = append(list, 'disk', {
      name: target,
      backup: 'yes',
      type: 'file',
      exportname: target,
      exportbitmap: since === null ? null : `backup-${target}`,
      backupmode: since === null ? 'full' : 'incremental',
      incremental: since,
    });
    append(disk, 'driver', { type: 'qcow2' });
    append(disk, 'scratch', { file: scratch });
  }
  return writeXml(document);
}

/** Null when no disk can be tracked. */
export function checkpointXml(name: string, disks: readonly BackupDisk[]): string | null {
  if (!disks.some(({ tracks }) => tracks)) return null;
  const document = parseXml('<domaincheckpoint/>');
  const root = document.documentElement;
  if (root === null) return null;
  append(root, 'name', {}, name);
  append(root, 'description', {}, 'Sendense: the base of its next incremental backup');
  const list = append(root, 'disks');
  for (const { target, tracks } of disks)
    append(list, 'disk', { name: target, checkpoint: tracks ? 'bitmap' : 'no' });
  return writeXml(document);
}
