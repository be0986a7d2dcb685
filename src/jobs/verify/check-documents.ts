import { errnoOf, messageOf, SendenseError } from '../../base/sendense-error.ts';
import type { Backup } from '../../catalog/points/backup-rows.ts';
import { type Manifest, type Sidecar, vmDocument } from '../../repository/documents.ts';
import { layout } from '../../repository/layout.ts';
import { readDocument } from '../../repository/read-document.ts';
import { readManifest } from '../../repository/read-repository.ts';

async function attempt<T>(
  path: string,
  read: () => Promise<T>,
): Promise<{ document: T | null; error: SendenseError | null }> {
  try {
    return { document: await read(), error: null };
  } catch (error) {
    if (error instanceof SendenseError) return { document: null, error };
    if (errnoOf(error) === null) throw error;
    const detail = errnoOf(error) === 'ENOENT' ? 'it is missing' : messageOf(error);
    return { document: null, error: new SendenseError('FORMAT_INVALID', { path, detail }, error) };
  }
}

/** What is wrong with the machine's description; null when nothing is. */
export async function checkVmFile(root: string, vmUuid: string): Promise<SendenseError | null> {
  const path = layout.vmFile(root, vmUuid);
  const { document, error } = await attempt(path, () => readDocument(path, vmDocument));
  if (document !== null && document.vm_uuid !== vmUuid)
    return new SendenseError('FORMAT_INVALID', { path, detail: 'it describes another machine' });
  return error;
}

/** The manifest of a backup that the catalogue knows. */
export async function checkManifest(root: string, vmUuid: string, backup: Backup) {
  const path = layout.manifestFile(root, vmUuid, backup.id);
  const found = await attempt(path, () => readManifest(path, vmUuid));
  const named = found.document?.disks.map((disk) => `${disk.disk_index}/${disk.layer}`).join();
  const expected = backup.disks.map((disk) => `${disk.diskIndex}/${disk.layer}`).join();
  if (found.document === null || named === expected) return found;
  const detail =
    'it names other layers than the catalogue; run `sendense-ctl repository rebuild` if the file is right';
  return { document: found.document, error: new SendenseError('FORMAT_INVALID', { path, detail }) };
}

/** Why this layer cannot be the one that the manifest means, though it carries its name; null when it can. Pure. */
export function ownerObjection(manifest: Manifest, diskIndex: number, sidecar: Sidecar): string | null {
  const entry = manifest.disks.find((disk) => disk.disk_index === diskIndex);
  if (entry === undefined) return `the manifest of ${manifest.backup_id} has no disk ${diskIndex}`;
  if (entry.layer !== sidecar.layer) return `the manifest names ${entry.layer}`;
  if (sidecar.backup_id !== manifest.backup_id) return `its sidecar belongs to ${sidecar.backup_id}`;
  if (sidecar.disk_key !== entry.disk_key) return `its sidecar names the disk ${sidecar.disk_key}`;
  if (sidecar.virtual_size_bytes !== entry.virtual_size_bytes)
    return 'the manifest gives another size of the disk';
  return null;
}
