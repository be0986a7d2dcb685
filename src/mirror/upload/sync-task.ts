/** One layer of a chain in the repository, newest first. */
export interface LayerInput {
  /** Row file, found to be as it was sealed. */
  readonly rows: string;
  /** The restore point whose content this layer shows. */
  readonly point: string;
  /** Serves that content. */
  readonly exportName: string;
}

/** One disk of a restore point. */
export interface DiskInput {
  readonly point: string;
  readonly diskIndex: number;
  readonly sizeBytes: number;
  readonly layers: readonly LayerInput[];
  /** Where the exports of its layers are; opened only when something has to be uploaded. */
  readonly socketPath: string;
  readonly sidecar: Readonly<Record<string, unknown>>;
}

/** One restore point of a machine, to be in the mirror afterwards. */
export interface BackupInput {
  readonly backupId: string;
  readonly vm: { readonly vm_uuid: string; readonly vm_name: string; readonly context_id: string };
  readonly createdAt: string;
  readonly disks: readonly DiskInput[];
  readonly manifest: Readonly<Record<string, unknown>>;
  readonly machine: Readonly<Record<string, unknown>>;
}
