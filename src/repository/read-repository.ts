import { join } from 'node:path';
import { errnoOf, SendenseError } from '../base/sendense-error.ts';
import {
  type Manifest,
  manifestDocument,
  type Sidecar,
  sidecarDocument,
  type VmDocument,
  vmDocument,
} from './documents.ts';
import { layerFiles, layout, vmFolderPattern } from './layout.ts';
import { namesIn } from './names-in.ts';
import { type PinEntry, readPins } from './pins-file.ts';
import { readDocument } from './read-document.ts';

/** A file that should be a document and is not; it is reported and passed over. */
export interface UnreadableDocument {
  readonly path: string;
  readonly error: SendenseError;
}

export interface VmContent {
  readonly vm: VmDocument;
  readonly manifests: readonly Manifest[];
  /** Backup id → pins. */
  readonly pins: ReadonlyMap<string, readonly PinEntry[]>;
}

export interface RepositoryContent {
  readonly vms: readonly VmContent[];
  readonly unreadable: readonly UnreadableDocument[];
}

/** Reads everything that manifests name; all that the catalogue can be rebuilt from. */
export async function readRepository(root: string): Promise<RepositoryContent> {
  const vms: VmContent[] = [];
  const unreadable: UnreadableDocument[] = [];
  const attempt = async <T>(path: string, read: () => Promise<T>): Promise<T | null> => {
    try {
      return await read();
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return null;
      if (!(error instanceof SendenseError)) throw error;
      unreadable.push({ path, error });
      return null;
    }
  };
  for (const vmUuid of (await namesIn(root)).filter((name) => vmFolderPattern.test(name))) {
    const vmFile = layout.vmFile(root, vmUuid);
    const vm = await attempt(vmFile, () => readDocument(vmFile, vmDocument));
    if (!vm) continue;
    const manifests: Manifest[] = [];
    const folder = layout.backupsFolder(root, vmUuid);
    for (const name of await namesIn(folder)) {
      if (!name.endsWith('.json')) continue;
      const path = join(folder, name);
      const manifest = await attempt(path, () => readManifest(path, vmUuid));
      if (manifest) manifests.push(manifest);
    }
    const pins = new Map<string, PinEntry[]>();
    for (const { backup_id } of manifests) {
      const path = layout.pinsFile(root, vmUuid, backup_id);
      const found = await attempt(path, () => readPins(root, vmUuid, backup_id));
      if (found && found.length > 0) pins.set(backup_id, found);
    }
    vms.push({
      vm,
      pins,
      manifests: manifests.toSorted((a, b) => a.completed_at.localeCompare(b.completed_at)),
    });
  }
  return { vms, unreadable };
}

/** @throws FORMAT_INVALID also when the manifest lies under another name or machine than its own */
export async function readManifest(path: string, vmUuid: string): Promise<Manifest> {
  const manifest = await readDocument(path, manifestDocument);
  if (manifest.vm_uuid !== vmUuid || !path.endsWith(`/${manifest.backup_id}.json`)) {
    throw new SendenseError('FORMAT_INVALID', { path, detail: 'it belongs elsewhere' });
  }
  return manifest;
}

export function readSidecar(diskFolder: string, layer: string): Promise<Sidecar> {
  return readDocument(layerFiles(diskFolder, layer).sidecar, sidecarDocument);
}
