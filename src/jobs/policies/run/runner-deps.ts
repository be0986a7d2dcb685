import type { Clock } from '../../../base/clock.ts';
import type { Logger } from '../../../base/logger.ts';
import type { Catalog } from '../../../catalog/catalog.ts';
import type { StartBackupDeps } from '../../backup/start-backup.ts';
import type { BootTestDeps } from '../../boot-tests/start-boot-test.ts';
import type { JobEngine } from '../../job-engine.ts';
import type { MirrorDeps } from '../../mirror/mirror-deps.ts';
import type { PruneDeps } from '../../prune/start-prune.ts';
import type { Repositories } from '../../repository/repositories.ts';
import type { VerifyDeps } from '../../verify/start-verify.ts';
import type { PolicyBook } from '../policy-book.ts';
import type { TaskQueue } from './task-queue.ts';

/** So many jobs of policies at once. */
export interface RunLimits {
  readonly backups: number;
  readonly perRepository: number;
  /** A source is this host, an agent, or a libvirt. */
  readonly perSource: number;
  readonly bootTests: number;
}

/** Everything that a run may have done. */
export interface RunnerDeps {
  readonly book: PolicyBook;
  readonly queue: TaskQueue;
  readonly catalog: Catalog;
  readonly clock: Clock;
  readonly engine: JobEngine;
  readonly logger: Logger;
  readonly repositories: Repositories;
  readonly limits: RunLimits;
  readonly hookTimeoutMs: number;
  readonly backups: StartBackupDeps;
  readonly prune: PruneDeps;
  readonly verify: VerifyDeps;
  readonly bootTests: BootTestDeps;
  readonly mirrors: MirrorDeps;
}
