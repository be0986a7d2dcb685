import type { NbdEndpoint } from '../client/nbd-connection.ts';

/** A layer that shall be filled. */
export interface LayerToWrite {
  /** Absolute path of the new qcow2. */
  readonly path: string;
  /** Absolute paths of its parents, newest first, the full last; empty for a full. */
  readonly parents: readonly string[];
  readonly sizeBytes: number;
  readonly exportName: string;
}

/** Guest bytes of a layer, reachable by any NBD client. */
export interface OpenExport extends AsyncDisposable {
  readonly endpoint: NbdEndpoint;
  /** Connections and requests that this way of export takes best, measured. */
  readonly tuning: TransferTuning;
  /** Withdraws the export, flushes and closes the layer. Repeating it is fine. */
  close(): Promise<void>;
}

export interface TransferTuning {
  readonly connections: number;
  /** Requests in flight on each connection. */
  readonly inFlight: number;
  /** False where WRITE_ZEROES is slow or wrong; zeros are then written out. */
  readonly canWriteZeroes: boolean;
}

/** Where a layer's guest bytes can be written by any NBD client: `nbd-server` or `storage-daemon`. */
export interface ExportBackend {
  readonly kind: 'nbd-server' | 'storage-daemon';
  open(layer: LayerToWrite): Promise<OpenExport>;
}
