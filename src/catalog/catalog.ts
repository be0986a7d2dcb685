import { dirname, join } from 'node:path';
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import { type AgentQueries, agentQueries } from './agents.ts';
import { EventLog } from './events/events.ts';
import { type NotificationQueries, notificationQueries } from './events/notifications.ts';
import { type IdempotencyQueries, idempotencyQueries } from './idempotency.ts';
import { type JobQueries, jobQueries } from './jobs.ts';
import { type MeasureQueries, measureQueries } from './measures.ts';
import { mirrorHealthQueries } from './mirrors/mirror-health.ts';
import { type MirrorQueries, mirrorQueries } from './mirrors/mirrors.ts';
import { type MountQueries, mountQueries } from './mounts.ts';
import { openCatalog } from './open/open-catalog.ts';
import { type BackupQueries, backupQueries } from './points/backups.ts';
import { type BootTestQueries, bootTestQueries } from './points/boot-tests.ts';
import { type ChainQueries, chainQueries } from './points/chains.ts';
import { type PinQueries, pinQueries } from './points/pins.ts';
import { type PrunePlanQueries, prunePlanQueries } from './points/prune-plans.ts';
import { type RetiredQueries, retiredQueries } from './points/retired.ts';
import { type CoverageQueries, coverageQueries } from './policies/coverage.ts';
import { type PolicyFactQueries, policyFactQueries } from './policies/policy-facts.ts';
import { type PolicyRunQueries, policyRunQueries } from './policies/policy-runs.ts';
import { type RepositoryQueries, repositoryQueries } from './repositories/repositories.ts';
import { type RepositorySizeQueries, repositorySizeQueries } from './repositories/repository-sizes.ts';
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
