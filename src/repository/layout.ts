import { join } from 'node:path';
import { compactTimestamp } from '../base/clock.ts';
import { type LayerType, layerTypeShort } from '../nbd/exports/export-name.ts';

/** Name of a machine's folder. */
export const vmFolderPattern = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** Paths inside one repository. All names that go in were validated: none holds a slash. */
export const layout = {
  repositoryFile: (root: string) => join(root, 'repository.json'),
  /** Locked by the daemon that uses the repository; always empty. */
  lockFile: (root: string) => join(root, '.lock.db'),
  /** Who has the lock, or had it last. */
  holderFile: (root: string) => join(root, '.lock.json'),
  vmFolder: (root: string, vmUuid: string) => join(root, vmUuid),
  vmFile: (root: string, vmUuid: string) => join(root, vmUuid, 'vm.json'),
  backupsFolder: (root: string, vmUuid: string) => join(root, vmUuid, 'backups'),
  manifestFile: (root: string, vmUuid: string, backupId: string) =>
    join(root, vmUuid, 'backups', `${backupId}.json`),
  /** A manifest on its way out: the backup is gone for readers, its files are still to be removed. */
  tombstoneFile: (root: string, vmUuid: string, backupId: string) =>
    join(root, vmUuid, 'backups', `${backupId}.deleted`),
  pinsFile: (root: string, vmUuid: string, backupId: string) =>
    join(root, vmUuid, 'backups', `${backupId}.pins`),
  /** Folders of restore points that were booted; in each a folder per test. */
  bootTestsFolder: (root: string, vmUuid: string) => join(root, vmUuid, 'boot-tests'),
  mergeFile: (root: string, vmUuid: string, diskIndex: number) =>
    join(root, vmUuid, `disk-${diskIndex}`, 'merge.json'),
  diskFolder: (root: string, vmUuid: string, diskIndex: number) => join(root, vmUuid, `disk-${diskIndex}`),
};

/** The files of one layer; `partial`, `written` and `journal` exist only while it is being made. */
export interface LayerFiles {
  readonly image: string;
  readonly partial: string;
  readonly sidecar: string;
  readonly rows: string;
  readonly partialRows: string;
  readonly written: string;
  /** What an agent has said of it so far. */
  readonly journal: string;
}

export function layerFiles(diskFolder: string, layer: string): LayerFiles {
  const image = join(diskFolder, layer);
  const stem = image.replace(/\.qcow2$/, '');
  return {
    image,
    partial: `${image}.partial`,
    sidecar: `${stem}.json`,
    rows: `${stem}.blocks.json.zst`,
    partialRows: `${stem}.blocks.json.zst.partial`,
    written: `${stem}.written`,
    journal: `${stem}.journal`,
  };
}

/** `full|incr|diff-YYYYMMDD-HHMMSS` in UTC: what a layer is called, without `.qcow2` and a suffix. */
export const layerStem = (type: LayerType, startedAt: Date): string =>
  `${layerTypeShort[type]}-${compactTimestamp(startedAt)}`;
