import { join } from 'node:path';
import type { ChainRouteDeps } from '../../api/routes/backups/chain-routes.ts';
import type { Clock } from '../../base/clock.ts';
import type { Config } from '../../base/config/config-schema.ts';
import type { HomePaths } from '../../base/home/home-paths.ts';
import type { Logger } from '../../base/logger.ts';
import { parseInput } from '../../base/parse-input.ts';
import { SendenseError } from '../../base/sendense-error.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import { ChainKeeper } from '../../jobs/chains/chain-keeper.ts';
import type { JobEngine } from '../../jobs/job-engine.ts';
import type { Repositories } from '../../jobs/repository/repositories.ts';
import type { ResourceLocks } from '../../jobs/resource-locks.ts';
import { type RetentionRules, retentionRules } from '../../policy/retention/retention-rules.ts';
import type { CarryOutDeps } from '../../repository/merge/carry-out-merge.ts';

const MIB = 1024 * 1024;

interface ChainWiring {
  readonly catalog: Catalog;
  readonly clock: Clock;
  readonly config: Config;
  readonly engine: JobEngine;
  readonly locks: ResourceLocks;
  readonly logger: Logger;
  readonly paths: HomePaths;
  readonly repositories: Repositories;
}

const workFolderOf = (paths: Pick<HomePaths, 'runFolder'>) => join(paths.runFolder, 'merge');

/** For what a crash left in the middle of a rewriting; used before anybody may wait for it. */
export const settlingDeps = (
  paths: Pick<HomePaths, 'runFolder'>,
  logger: Logger,
  onStep: (step: string) => void,
): CarryOutDeps => ({
  logger,
  onStep: (step) => onStep(`intent:settle-${step}`),
  control: {
    workFolder: workFolderOf(paths),
    rateBytes: null,
    onProgress: () => undefined,
    signal: new AbortController().signal,
  },
});

/** Retention, merging and the keeper of short chains. */
export function wireChains(wiring: ChainWiring): { keeper: ChainKeeper; routeDeps: ChainRouteDeps } {
  defaultRulesOf(wiring.config); // not only when somebody prunes
  const { config, paths, catalog, clock, logger, locks, engine, repositories } = wiring;
  const start = {
    catalog,
    clock,
    logger,
    locks,
    engine,
    workFolder: workFolderOf(paths),
    reserveBytes: config.repository.reserve_bytes,
  };
  const consolidation = {
    get maxDepth() {
      return config.chain.max_depth;
    },
    get rateBytes() {
      const { consolidate_mib_per_s } = config.chain;
      return consolidate_mib_per_s === 0 ? null : consolidate_mib_per_s * MIB;
    },
    besideWhenHeld: false,
  };
  const keeper = new ChainKeeper({
    start,
    catalog,
    repositories,
    logger,
    options: consolidation,
    get isEnabled() {
      return config.chain.consolidate;
    },
  });
  const chainsChanged = (contextId: string, repositoryId: string) => keeper.changed(contextId, repositoryId);
  return {
    keeper,
    routeDeps: {
      ...start,
      repositories,
      consolidation,
      chainsChanged,
      get defaultRules() {
        return defaultRulesOf(config);
      },
    },
  };
}

/** @throws CONFIG_INVALID */
export const defaultRulesOf = ({ retention }: Config): RetentionRules =>
  parseInput(retentionRules, retention, 'the section retention', (detail) => {
    return new SendenseError('CONFIG_INVALID', { detail });
  });

/**
 * Layers above which a backup goes full by itself. With shortening in the background that is a last resort, for when
 * it cannot keep up.
 */
export const hardDepth = ({ chain }: Config): number =>
  chain.consolidate ? chain.max_depth * 2 : chain.max_depth;
