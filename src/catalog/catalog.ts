import { dirname, join } from 'node:path';
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import { type AgentQueries, agentQueries } from './agents.ts';
import { type BackupQueries, backupQueries } from './backups.ts';
import { type BootTestQueries, bootTestQueries } from './boot-tests.ts';
import { type ChainQueries, chainQueries } from './chains.ts';
import { type CoverageQueries, coverageQueries } from './coverage.ts';
import { EventLog } from './events.ts';
import { type IdempotencyQueries, idempotencyQueries } from './idempotency.ts';
import { type JobQueries, jobQueries } from './jobs.ts';
import { type MeasureQueries, measureQueries } from './measures.ts';
import { mirrorHealthQueries } from './mirror-health.ts';
import { type MirrorQueries, mirrorQueries } from './mirrors.ts';
import { type MountQueries, mountQueries } from './mounts.ts';
import { type NotificationQueries, notificationQueries } from './notifications.ts';
import { openCatalog } from './open-catalog.ts';
import { type PinQueries, pinQueries } from './pins.ts';
import { type PolicyFactQueries, policyFactQueries } from './policy-facts.ts';
import { type PolicyRunQueries, policyRunQueries } from './policy-runs.ts';
import { type PrunePlanQueries, prunePlanQueries } from './prune-plans.ts';
import { type RepositoryQueries, repositoryQueries } from './repositories.ts';
import { type RepositorySizeQueries, repositorySizeQueries } from './repository-sizes.ts';
import { type RetiredQueries, retiredQueries } from './retired.ts';
import { type TokenQueries, tokenQueries } from './tokens.ts';
import { type VmQueries, vmQueries } from './vms.ts';

/** All tables of one database. */
export interface Catalog extends Disposable {
  readonly agents: AgentQueries;
  readonly vms: VmQueries;
  readonly backups: BackupQueries;
  readonly retired: RetiredQueries;
  readonly pins: PinQueries;
  readonly coverage: CoverageQueries;
  readonly policyFacts: PolicyFactQueries;
  readonly policyRuns: PolicyRunQueries;
  readonly prunePlans: PrunePlanQueries;
  readonly chains: ChainQueries;
  readonly jobs: JobQueries;
  readonly repositories: RepositoryQueries;
  readonly repositorySizes: RepositorySizeQueries;
  readonly mounts: MountQueries;
  readonly mirrors: MirrorQueries;
  readonly mirrorHealth: ReturnType<typeof mirrorHealthQueries>;
  readonly bootTests: BootTestQueries;
  readonly tokens: TokenQueries;
  readonly notifications: NotificationQueries;
  readonly measures: MeasureQueries;
  readonly events: EventLog;
  readonly idempotency: IdempotencyQueries;
  /** All writes of `work` become visible together or not at all. */
  transaction<T>(work: () => T): T;
}

export function createCatalog(file: string, clock: Clock, logger: Logger): Catalog {
  const db = openCatalog(file);
  const anchorFile = file === ':memory:' ? null : join(dirname(file), 'events-anchor.json');
  const events = new EventLog(db, clock, logger, anchorFile);
  return {
    agents: agentQueries(db),
    vms: vmQueries(db),
    backups: backupQueries(db),
    retired: retiredQueries(db),
    pins: pinQueries(db),
    coverage: coverageQueries(db),
    policyFacts: policyFactQueries(db),
    policyRuns: policyRunQueries(db),
    prunePlans: prunePlanQueries(db),
    chains: chainQueries(db),
    jobs: jobQueries(db),
    repositories: repositoryQueries(db),
    repositorySizes: repositorySizeQueries(db),
    mounts: mountQueries(db),
    mirrors: mirrorQueries(db),
    mirrorHealth: mirrorHealthQueries(db),
    bootTests: bootTestQueries(db),
    tokens: tokenQueries(db),
    notifications: notificationQueries(db),
    measures: measureQueries(db),
    events,
    idempotency: idempotencyQueries(db),
    transaction: (work) => db.transaction(work)(),
    [Symbol.dispose]: () => {
      events.close();
      db.close();
    },
  };
}
