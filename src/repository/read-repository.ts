import { readdir } from 'node:fs/promises';
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
}

/** What was found of one machine. Without a description that can be read, only its unreadable files are told. */
export interface MachineContent {
  readonly vmUuid: string;
  readonly content: VmContent | null;
  readonly unreadable: readonly UnreadableDocument[];
}

export const isMachineFolder = (name: string): boolean => vmFolderPattern.test(name);

/** Folders of machines. A symlink is none: what it shows is not ours to change. */
export async function machineFolders(root: string): Promise<string[]> {
  const entries = await readdir(root, { withFileTypes: true });
  return entries
    .flatMap((entry) => (entry.isDirectory() && isMachineFolder(entry.name) ? [entry.name] : []))
    .sort();
}

/** Everything that one machine's manifests name. */
export async function readMachine(root: string, vmUuid: string): Promise<MachineContent> {
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
  const vmFile = layout.vmFile(root, vmUuid);
  const vm = await attempt(vmFile, () => readDocument(vmFile, vmDocument));
  const folder = layout.backupsFolder(root, vmUuid);
  const names = (await namesIn(folder)).filter((name) => name.endsWith('.json'));
  if (!vm) {
    // without a description the manifests belong to nobody, but they are there
    if (names.length > 0 && unreadable.length === 0) {
      const error = new SendenseError('FORMAT_INVALID', { path: vmFile, detail: 'it is missing' });
      unreadable.push({ path: vmFile, error });
    }
    return { vmUuid, content: null, unreadable };
  }
  const manifests: Manifest[] = [];
  for (const name of names) {
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
  const inOrder = manifests.toSorted((a, b) => a.completed_at.localeCompare(b.completed_at));
  return { vmUuid, content: { vm, pins, manifests: inOrder }, unreadable };
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
