import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { removeDurably, renameDurably, syncFolder, writeJsonDurably } from '../base/durable-file.ts';
import { errnoOf } from '../base/sendense-error.ts';
import { removeBootTests } from './boot-tests/boot-tests.ts';
import type { Manifest, VmDocument } from './documents.ts';
import { layout } from './layout.ts';
import { readManifest } from './read-repository.ts';

/** Makes the folders of a machine and writes who it is. */
export async function writeVmFile(root: string, vm: VmDocument): Promise<void> {
  await mkdir(layout.backupsFolder(root, vm.vm_uuid), { recursive: true, mode: 0o750 });
  await writeJsonDurably(layout.vmFile(root, vm.vm_uuid), vm);
  await syncFolder(root);
}

export async function makeDiskFolder(root: string, vmUuid: string, diskIndex: number): Promise<string> {
  const folder = layout.diskFolder(root, vmUuid, diskIndex);
  await mkdir(folder, { recursive: true, mode: 0o750 });
  await syncFolder(dirname(folder));
  return folder;
}

/** The instant from which the backup exists. */
export async function writeManifest(root: string, manifest: Manifest): Promise<void> {
  await writeJsonDurably(layout.manifestFile(root, manifest.vm_uuid, manifest.backup_id), manifest);
}

/** Null when the backup was not published. */
export async function findManifest(root: string, vmUuid: string, backupId: string): Promise<Manifest | null> {
  try {
    return await readManifest(layout.manifestFile(root, vmUuid, backupId), vmUuid);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null;
    throw error;
  }
}

/** From here on the backup is gone for every reader; its layers go when nothing stands on them any more. */
export async function entombBackup(root: string, manifest: Manifest): Promise<void> {
  const { vm_uuid, backup_id } = manifest;
  await renameDurably(
    layout.manifestFile(root, vm_uuid, backup_id),
    layout.tombstoneFile(root, vm_uuid, backup_id),
  );
  await removeDurably(layout.pinsFile(root, vm_uuid, backup_id));
  await removeBootTests(root, vm_uuid, backup_id);
}

/** True when a file can be created and renamed there; leaves nothing behind. */
export async function testWrite(root: string): Promise<void> {
  const probe = `${layout.repositoryFile(root)}.probe.tmp`;
  await writeFile(probe, 'probe');
  await rename(probe, `${probe}2.tmp`);
  await rm(`${probe}2.tmp`, { force: true });
}
