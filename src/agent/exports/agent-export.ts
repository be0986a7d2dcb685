import type { Logger } from '../../base/logger.ts';
import type { Agent } from '../../catalog/agents.ts';
import type { LayerToWrite, TransferTuning } from '../../nbd/exports/export-backend.ts';
import type { StorageDaemon } from '../../qemu/storage-daemon.ts';
import type { AgentTls, AgentWay } from '../protocol/calls.ts';
import type { DataPorts } from './data-ports.ts';
import type { SshServer } from './ssh-server.ts';

/** What one attempt of one transfer writes to, and nobody else. */
export interface AgentExport extends AsyncDisposable {
  readonly exportName: string;
  readonly way: AgentWay;
  readonly tls: AgentTls | null;
  readonly tuning: TransferTuning;
}

export interface AgentExportPlace {
  readonly logger: Logger;
  readonly backend: 'nbd-server' | 'storage-daemon';
  /** A folder for each export goes in here. */
  readonly runFolder: string;
  /** The appliance's own, for layers that are served as FUSE files. */
  readonly daemon: StorageDaemon;
  readonly fuseFolder: string;
  /** Where agents come in from, for the way `tls`. */
  readonly host: string;
  readonly ports: DataPorts;
  readonly ssh: SshServer | null;
}

export interface AgentExportOrder {
  readonly agent: Agent;
  readonly layer: LayerToWrite;
  /** Short, for a folder of sockets; used once. */
  readonly id: string;
}

/** Where a server of ours listens for one export. */
export type Listening =
  | { readonly kind: 'unix' }
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number };

/** What a backend gives: a server that has this one export and lets in only who was meant. */
export interface ServedExport {
  readonly tls: AgentTls | null;
  /** Of the way `local`. */
  readonly socketPath: string;
  readonly canWriteZeroes: boolean;
}

export interface ServeOrder extends AgentExportOrder {
  readonly folder: string;
  readonly listening: Listening;
}
