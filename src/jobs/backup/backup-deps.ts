import type { Clock } from '../../base/clock.ts';
import type { SourceOf } from '../../capture/source.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import type { Vm } from '../../catalog/vms.ts';
import type { LayerType } from '../../nbd/exports/export-name.ts';
import type { Repository } from '../../repository/open-repository.ts';
import type { Carrier } from './carry/carrier.ts';

/** What a backup needs from the appliance. */
export interface BackupDeps {
  readonly catalog: Catalog;
  readonly clock: Clock;
  readonly sourceOf: SourceOf;
  /**
   * How the bytes of a machine come into its layers: from an agent, or (null) from this host. `direct`: without a detour,
   * for sources that are read over NBD already.
   */
  readonly carrierOf: (agentId: string | null, direct: boolean) => Carrier;
  readonly toolVersions: Readonly<Record<string, string>>;
  readonly maxDepth: number;
  readonly hookTimeoutMs: number;
  /** Left free in the repository, bytes. */
  readonly reserveBytes: number;
}

export interface BackupRequest {
  readonly backupId: string;
  readonly vm: Vm;
  readonly repository: Repository;
  readonly type: LayerType;
  readonly createdAt: Date;
  /** Limit of what this host writes; null: none. */
  readonly mibPerSecond: number | null;
  /** Keeps a restore point from being deleted while a layer is built above it. Given back when the job ends. @throws BACKUP_BUSY */
  readonly holdBackup: (backupId: string) => void;
}
